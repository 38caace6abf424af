"""The scales and shifts of a tower's LayerNorms, learned from where they stand."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor, nn

from cliptune.clip.ports import PARTS, NormKey, Ports, TowerPorts
from cliptune.params import FullRank, Parameterisation
from cliptune.prompts.base import Prompt


class TunedNorms(Prompt):
    """Every LayerNorm's scale and shift learn from the frozen ones.

    The values themselves are what is learned, kept and decayed, as in the release; their differences from the frozen
    ones enter the towers, so that before training it is the zero-shot CLIP exactly.

    Args:
        towers: "image" and/or "text" → (layer, site) → LayerNorm, as a tower's `norms`. One matrix learns per
            tower, with a row for each scale and each shift.
        param: what a learnable matrix is.
    Source: the first stage of 2SFS (arXiv:2503.11609).
    """

    def __init__(
        self, towers: Mapping[str, Mapping[tuple[int, str], nn.LayerNorm]], param: Parameterisation = FullRank
    ) -> None:
        super().__init__()
        self.places: dict[str, list[NormKey]] = {}
        self.towers = nn.ModuleDict()
        for tower, norms in towers.items():
            self.places[tower] = [(*at, part) for at in norms for part in PARTS]
            rows = torch.stack(
                [value.detach().float() for norm in norms.values() for value in (norm.weight, norm.bias)]
            )
            self.register_buffer(f"frozen_{tower}", rows, persistent=False)
            self.towers[tower] = param(rows)

    def forward(self, seen: bool = True) -> Ports:
        return Ports(image=self._ports("image"), text=self._ports("text"))

    def _ports(self, tower: str) -> TowerPorts:
        if tower not in self.towers:
            return TowerPorts()
        moved = self.towers[tower]() - cast(Tensor, getattr(self, f"frozen_{tower}"))
        return TowerPorts(norm=dict(zip(self.places[tower], moved.unbind(0), strict=True)))
