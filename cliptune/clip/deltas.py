"""Low-rank changes of the frozen maps that make queries, keys and values."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

PROJECTIONS = ("q", "k", "v")
DeltaKey = tuple[int, str]


@dataclass(frozen=True)
class Delta:
    """x ↦ W x becomes x ↦ W x + up · down · dropout(x), with W frozen.

    Args:
        down: (r, d). up: (d, r), any scale included.
        dropout: probability in [0, 1) on the entries of x for this path alone; 0 in evaluation.
    Source: LoRA (arXiv:2106.09685); in CLIP as CLIP-LoRA (arXiv:2405.18541).
    """

    down: Tensor
    up: Tensor
    dropout: float = 0.0

    def __call__(self, x: Tensor) -> Tensor:
        """What is added to W x; x (..., d)."""
        x = F.dropout(x, self.dropout) if self.dropout else x
        return F.linear(F.linear(x, self.down.to(x.dtype)), self.up.to(x.dtype))

    @property
    def product(self) -> Tensor:
        """What is added to W, (d, d)."""
        return self.up @ self.down

    def map(self, fn: Callable[[Tensor], Tensor]) -> Delta:
        return replace(self, down=fn(self.down), up=fn(self.up))


def mixed(a: Delta, b: Delta, weight: float) -> Delta:
    """weight · b + (1 − weight) · a as one delta of rank r_a + r_b: products are interpolated, never factors."""
    return Delta(
        torch.cat([a.down, b.down]), torch.cat([(1 - weight) * a.up, weight * b.up], dim=1), max(a.dropout, b.dropout)
    )


def added(y: Tensor, x: Tensor, deltas: Mapping[str, Delta], projection: str) -> Tensor:
    """y = W x with the delta of that projection, if there is one."""
    delta = deltas.get(projection)
    return y if delta is None else y + delta(x)
