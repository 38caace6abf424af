"""Names for token positions, so that nobody counts tokens from the end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from cliptune.clip.ports import TowerPorts

IMAGE_GROUPS = ("cls", "patch", "prompt")
TEXT_GROUPS = ("sos", "prompt", "class", "eot", "pad")


@dataclass(frozen=True)
class TokenLayout:
    """Which group each row of a tower belongs to.

    Args:
        names: group names; the value g in `group` means `names[g]`.
        group: (..., T) int64.
    """

    names: tuple[str, ...]
    group: Tensor

    def mask(self, name: str) -> Tensor:
        """(..., T) bool, true on the rows of that group. Raises: ValueError for a name the tower does not have."""
        if name not in self.names:
            raise ValueError(f"TokenLayout: {name!r} is not a token group of this tower ({', '.join(self.names)}).")
        return self.group == self.names.index(name)

    def positions(self, name: str) -> Tensor:
        """Positions of the group in a layout of one sequence, (n,) int64."""
        return self.mask(name).nonzero().squeeze(-1)

    def widened(self, at: int, rows: int) -> TokenLayout:
        """With so many rows of the group "prompt" inserted at a place."""
        group = self.group
        more = group.new_full((*group.shape[:-1], rows), self.names.index("prompt"))
        return TokenLayout(self.names, torch.cat([group[..., :at], more, group[..., at:]], dim=-1))

    def __getitem__(self, rows: slice) -> TokenLayout:
        return TokenLayout(self.names, self.group[..., rows])


def image_layout(patches: int, prompts: int, device: torch.device | None = None, prefix: int = 1) -> TokenLayout:
    """[cls, patches, prompts] of an image tower; `prefix` is 0 where it has no class token."""
    position = torch.arange(prefix + patches + prompts, device=device)
    # By comparison: lengths that are read from a tensor would wait for a card, and cannot be exported.
    return TokenLayout(IMAGE_GROUPS, (position >= prefix).long() + (position >= prefix + patches).long())


def bias_rows(ports: TowerPorts, layer: int, site: str, layout: TokenLayout) -> Tensor | None:
    """The biases of one site, laid out over rows: (*lead, T or 1, d), or None if there are none."""
    found: Mapping[str, Tensor] = {k[2]: v for k, v in ports.bias.items() if k[:2] == (layer, site)}
    total: Tensor | None = None
    for name, value in found.items():
        rows = value.unsqueeze(-2)
        if name != "all":
            rows = rows * layout.mask(name).unsqueeze(-1).to(value.dtype)
        total = rows if total is None else total + rows
    return total
