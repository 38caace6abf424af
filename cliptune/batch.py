"""What one step sees: images, labels and where in their split they stand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """Images with labels.

    Args:
        images: (B, 3, h, w) float32 in [0, 1], not normalised; the pixel port normalises.
        labels: (B,) int64; −1 where the label is unknown.
        index: (B,) int64, position of each image in its split (cached features are found by it).
        masks: (B, 1, h, w) float32 in {0, 1}, foreground of these very views; None where no masks were asked for.
        added: (B,) bool, images that a sampler put between those of the step; None where it added none.
        bare: (B, V, D), what the image tower makes of these very views without a prompt; None where it is not known.
    """

    images: Tensor
    labels: Tensor
    index: Tensor
    masks: Tensor | None = None
    added: Tensor | None = None
    bare: Tensor | None = None

    @classmethod
    def of(cls, images: Tensor, labels: Tensor | None = None) -> Batch:
        """A batch outside any split: labels unknown unless given, index 0 … B−1."""
        n = len(images)
        unknown = torch.full((n,), -1, dtype=torch.int64, device=images.device)
        return cls(images, unknown if labels is None else labels, torch.arange(n, device=images.device))

    def to(self, device: torch.device | str) -> Batch:
        return self._each(lambda value: value.to(device))

    def __getitem__(self, rows: slice | Tensor) -> Batch:
        """Some of its images, by a slice or by positions (n,)."""
        return self._each(lambda value: value[rows])

    def _each(self, fn: Callable[[Tensor], Tensor]) -> Batch:
        kept = (None if value is None else fn(value) for value in (self.masks, self.added, self.bare))
        return Batch(fn(self.images), fn(self.labels), fn(self.index), *kept)

    def __len__(self) -> int:
        return len(self.labels)
