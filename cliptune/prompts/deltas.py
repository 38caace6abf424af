"""Learned low-rank changes of the attention's projections."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import cast

import torch
from torch import nn

from cliptune.clip.deltas import PROJECTIONS, Delta
from cliptune.clip.ports import Ports, TowerPorts
from cliptune.prompts.base import Prompt


class Factors(nn.Module):
    """A change B A of a (d, d) map: A (r, d) starts Kaiming-uniform, B (d, r) at zero: at first nothing changes.

    Args:
        width: d. rank: r, 1 ≤ r ≤ d.
    """

    def __init__(self, width: int, rank: int) -> None:
        super().__init__()
        self.down = nn.Parameter(torch.empty(rank, width))
        self.up = nn.Parameter(torch.zeros(width, rank))
        nn.init.kaiming_uniform_(self.down, a=math.sqrt(5))


class LowRankDeltas(Prompt):
    """W ← W + α/√r · B A on projections of every block.

    Args:
        towers: "image" and/or "text" → (blocks, width).
        rank: r. alpha: α; the scale is α / √r, as in the released code.
        dropout: in [0, 1), on the input of the added path, in training. What it takes from the rows that all texts
            share, it takes for all texts of a step.
        projections: which of "q", "k", "v".
    Source: CLIP-LoRA (arXiv:2405.18541, Sec. 4).
    """

    def __init__(
        self,
        towers: Mapping[str, tuple[int, int]],
        rank: int,
        alpha: float = 1.0,
        dropout: float = 0.0,
        projections: Sequence[str] = PROJECTIONS,
    ) -> None:
        super().__init__()
        widest = min(width for _, width in towers.values())
        if not 1 <= rank <= widest:
            raise ValueError(f"LowRankDeltas: rank must be between 1 and {widest}, got {rank}.")
        if not 0 <= dropout < 1:
            raise ValueError(f"LowRankDeltas: dropout must be in [0, 1), got {dropout}.")
        if not projections or set(projections) - set(PROJECTIONS) or len(set(projections)) != len(projections):
            raise ValueError(
                f"LowRankDeltas: projections must be some of {', '.join(PROJECTIONS)}, each once, got {projections}."
            )
        self.scale, self.dropout = alpha / math.sqrt(rank), dropout
        self.towers = nn.ModuleDict(
            {
                tower: nn.ModuleList(
                    nn.ModuleDict({p: Factors(width, rank) for p in projections}) for _ in range(blocks)
                )
                for tower, (blocks, width) in towers.items()
            }
        )

    def forward(self, seen: bool = True) -> Ports:
        return Ports(image=self._ports("image"), text=self._ports("text"))

    def _ports(self, tower: str) -> TowerPorts:
        present = tower in self.towers
        blocks = cast("Sequence[nn.ModuleDict]", self.towers[tower] if present else [])
        return TowerPorts(
            delta={
                (layer, projection): self._delta(cast(Factors, factors))
                for layer, block in enumerate(blocks)
                for projection, factors in block.items()
            }
        )

    def _delta(self, factors: Factors) -> Delta:
        return Delta(factors.down, self.scale * factors.up, self.dropout if self.training else 0.0)
