"""Being shown what the blocks of a tower attend to, and putting something else in its place, for a `with` block."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from cliptune.adapter import Adapter
from cliptune.clip.ports import called
from cliptune.clip.towers.blocks import Block, Taps
from cliptune.clip.towers.image import Patched
from cliptune.clip.towers.layout import TokenLayout, image_layout


@dataclass(frozen=True)
class Attended:
    """One block's attention in one forward pass over N sequences of T tokens.

    Args:
        layer: of the block.
        block: itself.
        weights: (N, heads, T, T).
        values: (N, heads, T, d / heads).
        layout: token groups, (T,) in the image tower and (K, T) in the text tower.
        lead: N = images × views (B, V), or images × texts (I, K).
    """

    layer: int
    block: Any
    weights: Tensor
    values: Tensor
    layout: TokenLayout
    lead: tuple[int, int]

    @property
    def each_layout(self) -> Tensor:
        """Group of every token of every sequence, (N, T)."""
        group = self.layout.group
        return group.expand(self.lead[0] * self.lead[1], -1) if group.ndim == 1 else group.repeat(self.lead[0], 1)


See = Callable[[Attended], Tensor | None]


@contextmanager
def tapped(adapter: Adapter, tower: str, see: See, layers: Sequence[int] | None = None) -> Iterator[None]:
    """Show the attention of a tower's blocks to `see`, pass after pass.

    Args:
        adapter: any.
        tower: "image" or "text".
        see: is given each block's attention; heads' outputs (N, heads, T, d / heads) that it gives back replace them.
        layers: block numbers; None for all.

    Inside the block the tower computes every row; outputs are equal up to rounding. When it ends, with an error or
    without, nothing is left behind.
    Raises: ValueError for a block that the tower does not have, or a tower without blocks.
    """
    blocks = blocks_of(adapter, tower)
    chosen = range(len(blocks)) if layers is None else layers
    for layer in chosen:
        if not 0 <= layer < len(blocks):
            raise ValueError(
                f"record: the {tower} tower of this CLIP has {len(blocks)} transformer blocks, numbered from 0; "
                f"block {layer} was asked for."
            )
    of: Any = getattr(adapter.clip, tower)
    given: dict[str, Any] = {}
    hook = of.register_forward_pre_hook(lambda _, args: given.update(to=args[0]))

    def tap(layer: int, block: Taps, weights: Tensor, values: Tensor) -> Tensor | None:
        if tower == "text":
            layout = of.layout_of(given["to"])
            if more := weights.shape[-1] - layout.group.shape[-1]:
                layout = of.layout_of(given["to"], more)
            lead = (len(weights) // len(given["to"]), len(given["to"]))
        else:
            assert isinstance(of, Patched)  # what has blocks has patches
            prompts = weights.shape[-1] - of.prefix - of.patches
            layout = image_layout(of.patches, prompts, weights.device, of.prefix)
            lead = given["to"].shape[:2]
        return see(Attended(layer, block, weights, values, layout, (lead[0], lead[1])))

    try:
        for layer in chosen:
            block = blocks[layer]
            block.attn.tap = lambda weights, values, layer=layer, block=block: tap(layer, block, weights, values)
        yield
    finally:
        for layer in chosen:
            blocks[layer].attn.tap = None
        hook.remove()


def own_blocks(adapter: Adapter, tower: str) -> list[Block]:
    """The blocks of a tower that are CLIP's own, as the frozen weights have them.

    Raises: ValueError for those of another library, or whose LayerNorms are learned.
    """
    if "norm" in getattr(adapter.prompt(seen=adapter.seen), tower).kinds:
        raise ValueError(
            f"The LayerNorms of the {tower} tower are learned here, and the blocks are taken apart as the frozen CLIP "
            "has them. Ask about another method."
        )
    found: Sequence[Any] = blocks_of(adapter, tower)
    if not all(isinstance(block, Block) for block in found):
        raise ValueError(
            f"The blocks of the {tower} tower, {called(getattr(adapter.clip, tower))}, are another library's and are "
            "not taken apart here. Ask about the text tower."
        )
    return list(found)


def blocks_of(adapter: Adapter, tower: str) -> Sequence[Taps]:
    """The transformer blocks of a tower; none where it has no such blocks, as a ResNet."""
    blocks: Sequence[Taps] = getattr(getattr(getattr(adapter.clip, tower), "transformer", None), "blocks", [])
    return blocks
