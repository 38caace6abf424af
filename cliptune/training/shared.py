"""What several runs on parts of the same images share, so that each image is decoded and embedded once."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from cliptune.data.cache import ImageCache
from cliptune.data.items import Split

if TYPE_CHECKING:
    from cliptune.adapter import Adapter


class SharedImages:
    """Decoded pictures, and embeddings of pictures as they are by the bare image tower.

    An image is known by its source, so parts of a split find what was computed for the whole of it. An embedding
    counts for one CLIP in one precision on one device.

    Args:
        limit_bytes: most memory for decoded pictures, ≥ 0; embeddings come on top, 4 D bytes each.
    """

    def __init__(self, limit_bytes: int = 2**30) -> None:
        self.pictures = ImageCache(limit_bytes)
        self._kept: dict[tuple[Any, ...], dict[Any, Tensor]] = {}

    def embeddings(self, adapter: Adapter, split: Split, embed: Callable[[Split], Tensor]) -> Tensor:
        """Embeddings (N, 1, D) of a split.

        Args:
            adapter: no learnable of it reaches them.
            embed: computes (n, 1, D) for the images that are not known yet.
        """
        clip = adapter.clip
        kept = self._kept.setdefault((clip, clip.device, clip.dtype), {})
        keys = [split.key(i) for i in range(len(split))]
        first = {key: i for i, key in reversed(list(enumerate(keys))) if key not in kept}
        missing = sorted(first.values())
        if missing:
            computed = embed(split if len(missing) == len(split) else split.subset(missing))
            kept.update((keys[i], row) for i, row in zip(missing, computed, strict=True))
        return torch.stack([kept[key] for key in keys])
