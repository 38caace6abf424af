"""The matrix products that one training step cannot do without, counted from an adapter's own ports, texts and images.

Counted are the forward pass, and of the backward pass the gradients of inputs on the way from the loss to a learnable:
none of a frozen weight, none in front of the first learnable, of the last block only for the rows that are read, of a
row that the next block replaces only key and value. Products of a learnable's own (MaPLe's maps, a low-rank change)
and of the head are left out: they are thousandths. Attention is counted as if nothing were masked.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor

from cliptune.adapter import Adapter
from cliptune.batch import Batch
from cliptune.clip.ports import EMPTY, TowerPorts
from cliptune.clip.towers.image import VisionTransformer
from cliptune.clip.towers.text import TextTower, _images, _shareable
from cliptune.prompts.pixels import PixelPattern


class Product(NamedTuple):
    """`count` products (rows, inner) @ (inner, outer). `turned`: the second factor lies as (outer, inner)."""

    rows: int
    inner: int
    outer: int
    count: int = 1
    turned: bool = False

    @property
    def flop(self) -> int:
        """Two for each multiplication."""
        return 2 * self.count * self.rows * self.inner * self.outer


Products = Counter  # Product → how often


class Rows(NamedTuple):
    """Rows of one block: how many enter, how many of them leave, and how many of both kinds carry a gradient."""

    entering: int
    leaving: int
    moving: int
    moving_leaving: int


class Asking(NamedTuple):
    """`count` groups of queries that look at keys, in one block, and how many of both carry a gradient."""

    count: int
    queries: int
    keys: int
    moving_queries: int
    moving_keys: int


def block(found: Products, width: int, inner: int, heads: int, rows: Rows, asking: Iterable[Asking], out: bool) -> None:
    """One block; `out`: a gradient comes back through its MLP."""

    def frozen(many: int, a: int, b: int, back: int = 0) -> None:
        """A frozen map a → b of so many rows, and its input gradient for some."""
        found[Product(many, a, b, turned=True)] += 1
        if back:
            found[Product(back, b, a)] += 1

    if rows.entering == rows.leaving and rows.moving == rows.moving_leaving:
        frozen(rows.entering, width, 3 * width, rows.moving)
    else:
        frozen(rows.leaving, width, width, rows.moving_leaving)
        frozen(rows.entering, width, 2 * width, rows.moving)
    head = width // heads
    for count, queries, keys, moving_queries, moving_keys in asking:
        n = count * heads
        found[Product(queries, head, keys, n, True)] += 1
        found[Product(queries, keys, head, n)] += 1
        if moving_keys:  # of the values; of the weights, for whoever moves them; of the keys
            found[Product(moving_keys, queries, head, n)] += 2
            found[Product(queries, head, keys if moving_queries else moving_keys, n, True)] += 1
        if moving_queries:
            found[Product(moving_queries, keys, head, n)] += 1
    frozen(rows.leaving, width, width, rows.leaving if rows.moving else 0)
    frozen(rows.leaving, width, inner, rows.leaving if out else 0)
    frozen(rows.leaving, inner, width, rows.leaving if out else 0)


def live(values: Iterable[Tensor]) -> bool:
    return any(value.requires_grad for value in values)


def enters(ports: TowerPorts, layer: int, kind: str, site: str = "") -> bool:
    """Whether something learned of that kind enters a layer."""
    return live(
        value
        for (of, key), value in ports.leaves()
        if of == kind and (key if isinstance(key, int) else key[0]) == layer and (not site or key[1] == site)
    )


def image_products(tower: VisionTransformer, ports: TowerPorts, views: int, moving_patches: int = 0) -> Products:
    """So many views through a ViT; `moving_patches` of each hold pixels that learn."""
    found: Products = Counter()
    width, pixels = tower.width, 3 * tower.patch**2
    heads, inner = tower.transformer.blocks[0].attn.heads, tower.transformer.blocks[0].mlp[0].out_features
    found[Product(views * tower.patches, pixels, width, turned=True)] += 1
    if moving_patches:
        found[Product(views * moving_patches, width, pixels)] += 1
    real, tokens, inserted = 1 + tower.patches, 0, 0
    moving_real, moving_tokens = moving_patches, 0
    for layer in range(tower.layers):
        if layer in ports.tokens:
            tokens = ports.tokens[layer].shape[-2]
            moving_tokens = tokens if enters(ports, layer, "tokens") else 0
        if layer in ports.inserted:
            inserted = ports.inserted[layer].shape[-2]
            moving_tokens += inserted if enters(ports, layer, "inserted") else 0
        entering = real + tokens + inserted
        last = layer == tower.layers - 1
        leaving = entering if inserted else 1 if last else real if layer + 1 in ports.tokens else entering
        if enters(ports, layer, "norm", "pre") or enters(ports, layer, "norm", "attn"):
            moving_real, moving_tokens = real, entering - real
        moving = moving_real + moving_tokens
        # A class token that no learnable has reached asks without a gradient, though its row is the one that is left.
        leaves = moving if leaving == entering else moving_real if leaving == real else int(moving_real == real)
        attends = bool(moving) or enters(ports, layer, "delta") or enters(ports, layer, "bias", "attn_out")
        out = attends or enters(ports, layer, "norm", "mlp")
        rows = Rows(views * entering, views * leaving, views * moving, views * leaves)
        block(found, width, inner, heads, rows, [Asking(views, leaving, entering, leaves, moving)], out)
        if out or enters(ports, layer, "bias"):
            moving_real, moving_tokens = real, leaving - real if leaving > real else 0
    found[Product(views, width, tower.embed)] += 1
    if moving_real:
        found[Product(views, tower.embed, width, turned=True)] += 1
    return found


def text_products(tower: TextTower, adapter: Adapter, ports: TowerPorts) -> Products:
    """The texts of an adapter under these ports, with the start that they share once per image that they depend on."""
    found: Products = Counter()
    texts, images = adapter.texts, _images(ports)
    plan = texts.plan(_shareable(texts, ports), 10**9)
    (chunk,) = plan.chunks
    width, heads = tower.width, tower.transformer.blocks[0].attn.heads
    inner = tower.transformer.blocks[0].mlp[0].out_features
    start, suffixes, learned = plan.prefix, len(chunk.row_pos), len(plan.prefix_rows)
    # What stands in front of the first learnable of a text cannot see it.
    seeing = start - int(plan.prefix_rows.min()) if learned else 0
    moving_start, moving_suffixes = 0, 0
    for layer in range(tower.layers):
        if enters(ports, layer, "tokens"):
            moving_start = max(moving_start, learned)
            moving_suffixes = max(moving_suffixes, len(chunk.slot_rows))
        if enters(ports, layer, "norm", "attn"):
            moving_start, moving_suffixes = start, suffixes
        last = layer == tower.layers - 1
        replaced = layer + 1 in ports.tokens
        leaving_start = 0 if last else start - learned if replaced else start
        leaving = len(texts) if last else suffixes - (len(chunk.slot_rows) if replaced else 0)
        moving = moving_start + moving_suffixes
        leaves = (0 if last else max(0, moving_start - learned) if replaced else moving_start) + (
            min(leaving, moving_suffixes)
        )
        rows = Rows(images * (start + suffixes), images * (leaving_start + leaving), images * moving, images * leaves)
        own = [
            Asking(
                images * count,
                1 if last else size,
                start + size,
                (1 if last else size) if moving_suffixes == suffixes else 0,
                moving_start + (size if moving_suffixes else 0),
            )
            for count, size in chunk.lengths
        ]
        if leaving_start:
            own.append(Asking(images, leaving_start, start, min(leaving_start, moving_start), moving_start))
        attends = bool(moving) or enters(ports, layer, "delta") or enters(ports, layer, "bias", "attn_out")
        out = attends or enters(ports, layer, "norm", "mlp")
        block(found, width, inner, heads, rows, own, out)
        if out or enters(ports, layer, "bias"):
            moving_start, moving_suffixes = (seeing or start if start else 0), suffixes
    found[Product(images * len(texts), width, tower.embed)] += 1
    if moving_suffixes:
        found[Product(images * len(texts), tower.embed, width, turned=True)] += 1
    return found


def moving_patches(adapter: Adapter) -> int:
    """Patches of a view with a pixel that learns."""
    side, patch = adapter.clip.image.resolution, adapter.clip.config.patch
    for part in adapter.prompt.modules():
        if isinstance(part, PixelPattern):
            row, column = part.pixel // side // patch, part.pixel % side // patch
            return len(torch.unique(row * (side // patch) + column))
    return (side // patch) ** 2


def step_products(adapter: Adapter, batch: Batch, needs: frozenset[str]) -> Products:
    """All products of one training step on a batch."""
    ports = adapter.prompt(seen=True)
    views = adapter.views(batch, ports.pixels)
    tower, text = adapter.clip.image, adapter.clip.text
    assert isinstance(tower, VisionTransformer)
    count = views.shape[0] * views.shape[1]
    found = image_products(tower, ports.image, count, moving_patches(adapter) if views.requires_grad else 0)
    if "reference" in needs and batch.bare is None and not (ports.image.empty and ports.pixels is None):
        found += image_products(tower, EMPTY, len(batch))
    unit = torch.nn.functional.normalize(torch.randn(*views.shape[:2], tower.embed), dim=-1)
    given = ports.text_given(unit)
    return found if given.empty else found + text_products(text, adapter, given)
