"""Vectors added to the residual stream of every block, in place of prompt tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from cliptune.clip.ports import SITES, BiasKey, Ports, TowerPorts
from cliptune.clip.towers.layout import IMAGE_GROUPS, TEXT_GROUPS
from cliptune.params import FullRank, Parameterisation
from cliptune.prompts.base import Prompt

Groups = Literal["all", "split"]

# The token that is read out has its own vector when groups are split; all other rows share one.
READ_OUT = {"image": "cls", "text": "eot"}
NAMES = {"image": IMAGE_GROUPS, "text": TEXT_GROUPS}


@dataclass(frozen=True)
class TowerBias:
    """Biases of one tower.

    Args:
        depth: J, biased blocks 0 … J−1. width: d of the tower.
        sites: "attn_out", "mlp_out" or both.
        groups: "all" gives every token the same vector; "split" gives the token that is read out (CLS, EOT) its own.
    """

    depth: int
    width: int
    sites: tuple[str, ...] = SITES
    groups: Groups = "all"

    @property
    def per_block(self) -> int:
        """Vectors per block: as many learnables as that many prompt tokens per block."""
        return len(self.sites) * (2 if self.groups == "split" else 1)

    def keys(self, tower: str) -> list[tuple[BiasKey, ...]]:
        """For each row of the stacked matrix, the places that it is added to."""
        rest = tuple(name for name in NAMES[tower] if name != READ_OUT[tower])
        groups = (("all",),) if self.groups == "all" else ((READ_OUT[tower],), rest)
        return [
            tuple((layer, site, name) for name in names)
            for layer in range(self.depth)
            for site in self.sites
            for names in groups
        ]


def matching_budget(tokens: int) -> tuple[tuple[str, ...], Groups]:
    """Sites and groups whose vectors per block cost what that many prompt tokens per block cost: 1, 2 or 4.

    Raises: ValueError for another number.
    """
    found: dict[int, tuple[tuple[str, ...], Groups]] = {
        1: (("attn_out",), "all"),
        2: (SITES, "all"),
        4: (SITES, "split"),
    }
    if tokens not in found:
        raise ValueError(
            f"Bias: the budget of 1, 2 or 4 prompt tokens per block can be matched (sites times token groups), "
            f"got {tokens}."
        )
    return found[tokens]


class LayerBias(Prompt):
    """z = x + Attn(LN x) + b_a, then z + MLP(LN z) + b_m, in blocks 0 … J−1 of one tower or both.

    Starts at zero: before training it is the zero-shot CLIP exactly. Keys need no bias (softmax does not see it) and
    a bias of the values would be one of the output.

    Args:
        towers: "image" and "text" → what is biased there; one matrix (J · vectors per block, d) learns per tower.
        param: what a learnable matrix is.
    Source: bias tuning (arXiv:2312.11570); the places are ours, the paper's material does not state them.
    """

    def __init__(self, towers: dict[str, TowerBias], param: Parameterisation = FullRank) -> None:
        super().__init__()
        self.places = {tower: bias.keys(tower) for tower, bias in towers.items()}
        self.towers = nn.ModuleDict(
            {tower: param(torch.zeros(len(self.places[tower]), bias.width)) for tower, bias in towers.items()}
        )

    def forward(self, seen: bool = True) -> Ports:
        ports = {tower: self._spread(tower, matrix().unbind(0)) for tower, matrix in self.towers.items()}
        return Ports(image=TowerPorts(bias=ports.get("image", {})), text=TowerPorts(bias=ports.get("text", {})))

    def _spread(self, tower: str, rows: Sequence[torch.Tensor]) -> dict[BiasKey, torch.Tensor]:
        return {key: row for keys, row in zip(self.places[tower], rows, strict=True) for key in keys}
