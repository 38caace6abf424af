"""Tokens of a space of their own, mapped into both towers, and a second read-out of what becomes of them."""

from __future__ import annotations

import copy
import math
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cliptune.clip.ports import Ports, TowerPorts
from cliptune.params import FullRank, Parameterisation
from cliptune.prompts.base import Prompt


class SeparateMaps(nn.Module):
    """One linear map per block. As released, they are copies of one fresh layer, equal at the start.

    Args: dim: of the space. width: d of the tower. blocks: that rows enter.
    """

    def __init__(self, dim: int, width: int, blocks: int) -> None:
        super().__init__()
        layer = nn.Linear(dim, width)
        self.layers = nn.ModuleList(copy.deepcopy(layer) for _ in range(blocks))

    def forward(self, rows: Tensor) -> list[Tensor]:
        """(n, dim) → for each block (n, d)."""
        return [layer(rows) for layer in self.layers]


class Residual(nn.Module):
    """A change of low rank, A B: A (rows, r) starts uniformly in ±1/√r, as released, and B (r, columns) at zero."""

    def __init__(self, rows: int, columns: int, rank: int) -> None:
        super().__init__()
        self.left = nn.Parameter(torch.empty(rows, rank))
        self.right = nn.Parameter(torch.zeros(rank, columns))
        nn.init.kaiming_uniform_(self.left, a=math.sqrt(5))

    def forward(self) -> Tensor:
        return self.left @ self.right


class SharedMaps(nn.Module):
    """One linear map for all blocks, and for each a change of low rank and a shift of its own.

    Args: dim, width, blocks: as of `SeparateMaps`. rank: of the changes.
    Source: the shared-residual aligner of MMRL++ (arXiv:2505.10088).
    """

    def __init__(self, dim: int, width: int, blocks: int, rank: int) -> None:
        super().__init__()
        layer = nn.Linear(dim, width)
        self.weight = nn.Parameter(layer.weight.detach().clone())
        self.changes = nn.ModuleList(Residual(width, dim, rank) for _ in range(blocks))
        self.shifts = nn.ParameterList(nn.Parameter(layer.bias.detach().clone()) for _ in range(blocks))

    def forward(self, rows: Tensor) -> list[Tensor]:
        """(n, dim) → for each block (n, d)."""
        pairs = zip(self.changes, self.shifts, strict=True)
        return [F.linear(rows, self.weight + change(), shift) for change, shift in pairs]


class FreeProjection(FullRank):
    """The second read-out's map (d, D), from a random start."""

    def __init__(self, frozen: Tensor) -> None:
        super().__init__(len(frozen) ** -0.5 * torch.randn(frozen.shape))


class NearProjection(nn.Module):
    """The frozen map of the first read-out, W_0 + A B.

    Source: MMRL++ (arXiv:2505.10088).
    """

    frozen: Tensor

    def __init__(self, frozen: Tensor, rank: int) -> None:
        super().__init__()
        self.register_buffer("frozen", frozen.detach().clone().float(), persistent=False)
        self.change = Residual(frozen.shape[0], frozen.shape[1], rank)

    def forward(self) -> Tensor:
        return self.frozen + cast(Tensor, self.change())


class Representation(Prompt):
    """Tokens R (n, dim) of one space for both towers, which see them from some block on.

    The input of block i of a tower gets R_i = f_i(R); what the block before made of the last ones stays with a share of
    1 − β, so that they are β R_i + (1 − β) of that. The mean of the image tower's ones behind its last LayerNorm, by a
    map of its own, is a second embedding of the image.

    Args:
        n: tokens. dim: of their space.
        first: tower → first block, counted from 0.
        maps: tower → f, giving the rows of all its blocks from there on.
        second: the second read-out's map, a module that gives (d, D).
        beta: β in (0, 1]; 1 replaces the rows.
        param: what the matrix R is.
    Source: MMRL (arXiv:2503.08497) for β = 1, MMRL++ (arXiv:2505.10088); as released.
    """

    map_names = ("maps", "second")

    def __init__(
        self,
        n: int,
        dim: int,
        first: dict[str, int],
        maps: dict[str, nn.Module],
        second: nn.Module,
        beta: float = 1.0,
        param: Parameterisation = FullRank,
    ) -> None:
        super().__init__()
        self.first, self.beta = first, beta
        self.space: nn.Module = param(0.02 * torch.randn(n, dim))
        self.maps = nn.ModuleDict(maps)
        self.second = second

    def forward(self, seen: bool = True) -> Ports:
        space = self.space()
        image = TowerPorts(
            projection={"second": self.second()}, inserted=self._rows("image", space), flow=1 - self.beta
        )
        return Ports(image=image, text=TowerPorts(inserted=self._rows("text", space), flow=1 - self.beta))

    def _rows(self, tower: str, space: Tensor) -> dict[int, Tensor]:
        start = self.first[tower]
        # At the first block there is nothing to add to.
        return {start + i: rows if i == 0 else self.beta * rows for i, rows in enumerate(self.maps[tower](space))}
