"""Decoded pictures kept in memory, so that each is decoded once."""

from __future__ import annotations

import threading
from collections.abc import Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from PIL import Image

from cliptune.data.items import Split


class ImageCache:
    """Decoded pictures of file-backed splits, kept up to a number of bytes; the pixels are exactly those of
    the file.

    A training run passes over the same pictures many times in random order, so what is in stays in: when the limit
    is reached, further pictures are decoded each time instead of pushing others out.

    Args:
        limit_bytes: most memory for pixels (3 bytes each), ≥ 0.
    """

    def __init__(self, limit_bytes: int = 2**30) -> None:
        if limit_bytes < 0:
            raise ValueError(f"ImageCache: limit_bytes must be 0 or more, got {limit_bytes}.")
        self.limit_bytes = limit_bytes
        self.bytes = 0
        self.full = limit_bytes == 0
        self._pixels: dict[Hashable, tuple[tuple[int, int], bytes]] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._pixels)

    def image(self, split: Split, i: int) -> Image.Image:
        """Picture i of the split as a fresh RGB image, decoded only if it is not yet kept."""
        if split.in_memory:
            return split.image(i)
        key = split.key(i)
        kept = self._pixels.get(key)
        if kept is not None:
            size, pixels = kept
            return Image.frombytes("RGB", size, pixels)
        image = split.image(i)
        n_bytes = 3 * image.width * image.height
        with self._lock:
            if self.bytes + n_bytes > self.limit_bytes:
                self.full = True
            elif key not in self._pixels:
                self._pixels[key] = (image.size, image.tobytes())
                self.bytes += n_bytes
        return image

    def fill(self, split: Split, threads: int = 1, only: Sequence[int] | None = None) -> None:
        """Decode what fits, `threads` pictures at a time (decoding releases Python's lock).

        Args:
            only: the positions that will be asked for, as in `loader.batches`; None for all.
        """
        if split.in_memory or self.full:
            return
        wanted = range(len(split)) if only is None else sorted({place % len(split) for place in only})
        with ThreadPoolExecutor(max(1, threads)) as pool:
            for start in range(0, len(wanted), 64):
                if self.full:
                    return
                list(pool.map(lambda i: self.image(split, i), wanted[start : start + 64]))

    def __getstate__(self) -> dict[str, Any]:
        # A worker started by "spawn" gets an empty cache: sending the pixels would cost more than decoding.
        return {"limit_bytes": self.limit_bytes}

    def __setstate__(self, state: dict[str, Any]) -> None:
        ImageCache.__init__(self, state["limit_bytes"])
