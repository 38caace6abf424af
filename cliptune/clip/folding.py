"""Biases and deltas written into the frozen weights, and taken out again."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from cliptune.clip.deltas import PROJECTIONS
from cliptune.clip.model import CLIP
from cliptune.clip.ports import TowerPorts, called
from cliptune.clip.towers.blocks import Block


class BiasFold:
    """`image` and `text` biases added to the output projection of attention and the second linear map of the MLP.

    The weights of `clip` change, for all adapters that share it, until `undo` puts the old ones back, bit for bit.
    Also a context manager.

    Args:
        clip: whose frozen biases take them up. image, text: only `bias` is read; each for all tokens and shared by
            all inputs, (d,).
    Raises: ValueError for a bias of some tokens only or of some inputs only, which no single vector can hold.
    """

    def __init__(self, clip: CLIP, image: TowerPorts, text: TowerPorts) -> None:
        found = [(which, *item) for which, ports in (("image", image), ("text", text)) for item in ports.bias.items()]
        for which, (layer, site, group), value in found:
            if group != "all" or value.ndim != 1:
                raise ValueError(
                    f"BiasFold: the {which} bias of block {layer}, {site}, is for the tokens {group!r} with shape "
                    f"{tuple(value.shape)}; only a vector for all tokens folds into the frozen weights. "
                    "Use it unfolded, or train with one vector for all tokens."
                )
        self._kept: list[tuple[nn.Parameter, Tensor]] = []
        for which, (layer, site, _), value in found:
            block = _own_block("BiasFold", clip, which, layer)
            last = block.attn.out_proj if site == "attn_out" else cast(nn.Linear, block.mlp.c_proj)
            frozen = last.bias
            self._kept.append((frozen, frozen.detach().clone()))
            with torch.no_grad():
                frozen.add_(value.to(frozen))

    def undo(self) -> None:
        """Restore the frozen weights exactly; a second call does nothing."""
        with torch.no_grad():
            while self._kept:
                frozen, before = self._kept.pop()
                frozen.copy_(before)

    def __enter__(self) -> BiasFold:
        return self

    def __exit__(self, *error: object) -> None:
        self.undo()


def _own_block(who: str, clip: CLIP, which: str, layer: int) -> Block:
    block = getattr(clip, which).transformer.blocks[layer]
    if not isinstance(block, Block):
        raise ValueError(
            f"{who}: the blocks of the {which} tower, {called(getattr(clip, which))}, are another library's, and what "
            "is added in them is not written into their weights. Use the adapter as it is."
        )
    return block


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
                weight = _own_block("DeltaFold", clip, name, layer).attn.in_proj_weight
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
