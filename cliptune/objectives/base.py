"""A loss function with its weights and what it needs to see."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

Parts = dict[str, Tensor]
LossFunction = Callable[..., tuple[Tensor, Parts]]


class WeightedLoss:
    """`fn(out, batch, progress, **weights) → (loss, parts)` with the weights filled in.

    Args:
        fn: pure function of outputs and batch; `progress` in [0, 1) is epoch / epochs.
        needs: what the outputs must hold beyond the adapter's answer; "reference" is the frozen CLIP's.
        weights: keyword arguments of `fn`.
    """

    def __init__(self, fn: LossFunction, needs: frozenset[str] | set[str] = frozenset(), **weights: Any) -> None:
        self.fn, self.needs, self.weights = fn, frozenset(needs), weights

    def __call__(self, out: Any, batch: Any, progress: float) -> tuple[Tensor, Parts]:
        return self.fn(out, batch, progress, **self.weights)
