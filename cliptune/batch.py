"""What one step sees: images, labels and where in their split they stand."""

from __future__ import annotations

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
    """

    images: Tensor
    labels: Tensor
    index: Tensor
    masks: Tensor | None = None

    @classmethod
    def of(cls, images: Tensor, labels: Tensor | None = None) -> Batch:
        """A batch outside any split: labels unknown unless given, index 0 … B−1."""
        n = len(images)
        unknown = torch.full((n,), -1, dtype=torch.int64, device=images.device)
        return cls(images, unknown if labels is None else labels, torch.arange(n, device=images.device))

    def to(self, device: torch.device | str) -> Batch:
        masks = None if self.masks is None else self.masks.to(device)
        return Batch(self.images.to(device), self.labels.to(device), self.index.to(device), masks)

    def __getitem__(self, rows: slice) -> Batch:
        """Some of its images."""
        masks = None if self.masks is None else self.masks[rows]
        return Batch(self.images[rows], self.labels[rows], self.index[rows], masks)

    def __len__(self) -> int:
        return len(self.labels)
