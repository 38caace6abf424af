"""A split once in its own order, with embeddings in place of images where they may be known."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from cliptune.batch import Batch
from cliptune.data.cache import ImageCache
from cliptune.data.items import Split
from cliptune.data.loader import batches, steps_per_epoch
from cliptune.features.embedding import View, Watch, embedded
from cliptune.features.store import FeatureStore

if TYPE_CHECKING:
    from cliptune.clip.model import CLIP

Embed = Callable[[Split], Tensor]
"""A split → embeddings (N, 1, D) of its pictures."""


def in_order(
    clip: CLIP,
    split: Split,
    view: View,
    batch_size: int,
    *,
    frozen: bool,
    store: FeatureStore | None = None,
    kept: Callable[[Split, Embed], Tensor] | None = None,
    workers: int = 0,
    cache: ImageCache | None = None,
    watch: Watch | None = None,
) -> Iterator[tuple[Batch, Tensor | None]]:
    """Batches of a split, with the embeddings (b, 1, D) of their pictures or None.

    Args:
        view: of every picture.
        frozen: no learnable reaches an embedding; then they are known and the batches have no images.
        store: where embeddings are looked up and added.
        kept: asked for the embeddings first; it embeds what it does not know.
        workers, cache, watch: see `embedded`.
    """

    def embed(part: Split) -> Tensor:
        return embedded(clip, part, view, store=store, workers=workers, cache=cache, watch=watch)

    if frozen:
        known = embed(split) if kept is None else kept(split, embed)
        for batch in in_order_without_images(split, batch_size, clip.device):
            yield batch, known[batch.index]
        return
    read = batches(
        split, view.transform, batch_size, shuffle=False, seed=0, workers=workers, device=clip.device, cache=cache
    )
    steps = steps_per_epoch(len(split), batch_size, drop_last=False)
    for batch in read if watch is None else watch(read, steps):
        yield batch, None


def in_order_without_images(split: Split, batch_size: int, device: torch.device) -> Iterator[Batch]:
    """A split's labels and positions in order, for embeddings that are known; the images are (b, 3, 0, 0)."""
    for start in range(0, len(split), batch_size):
        yield without_images(split, list(range(start, min(start + batch_size, len(split)))), device)


def without_images(split: Split, positions: list[int], device: torch.device) -> Batch:
    """Labels and positions of some pictures."""
    index = torch.tensor(positions, dtype=torch.int64)
    return Batch(torch.empty(len(positions), 3, 0, 0), split.labels[index], index).to(device)
