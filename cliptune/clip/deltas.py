"""Low-rank changes of the frozen maps that make queries, keys and values."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

if TYPE_CHECKING:
    from cliptune.clip.model import CLIP
    from cliptune.clip.ports import TowerPorts

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


class DeltaFold:
    """Deltas written into the frozen weights, so that inference costs nothing more.

    The weights of `clip` change, for all adapters that share it, until `undo` puts the old ones back, bit for bit.
    Also a context manager.

    Args:
        clip: whose frozen weights take them up. image, text: only `delta` is read; dropout is left out.
    """

    def __init__(self, clip: CLIP, image: TowerPorts, text: TowerPorts) -> None:
        self._kept: list[tuple[nn.Parameter, Tensor]] = []
        for name, ports in (("image", image), ("text", text)):
            for layer in sorted({layer for layer, _ in ports.delta}):
                weight = getattr(clip, name).transformer.blocks[layer].attn.in_proj_weight
                self._kept.append((weight, weight.detach().clone()))
                rows = dict(zip(PROJECTIONS, weight.data.chunk(3), strict=True))
                for projection, delta in ports.deltas(layer).items():
                    rows[projection].add_(delta.product.detach().to(weight))

    @torch.no_grad()
    def undo(self) -> None:
        """Restore the frozen weights exactly; a second call does nothing."""
        while self._kept:
            weight, before = self._kept.pop()
            weight.copy_(before)

    def __enter__(self) -> DeltaFold:
        return self

    def __exit__(self, *error: object) -> None:
        self.undo()
