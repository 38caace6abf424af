"""The plain vote, and how many images there are to learn a class from."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from cliptune.heads.mean import MeanHead


class CountingHead(MeanHead):
    """`MeanHead` that counts the training images and classes it is first shown, for losses that depend on the shots.

    Attributes: images, classes: int64 scalars; 0 before an observing stage has ended.
    """

    images: Tensor
    classes: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("images", torch.tensor(0))
        self.register_buffer("classes", torch.tensor(0))
        self._seen: list[Tensor] = []

    @property
    def per_class(self) -> float:
        """Images of a class, on average over those that have some; 1 before any was counted."""
        return float(self.images) / float(self.classes) if self.classes else 1.0

    def observe(self, out: Any, labels: Tensor, split: str = "train") -> None:
        if not self.classes and split == "train":
            self._seen.append(labels.cpu())

    def refit(self) -> None:
        if self._seen:
            labels = torch.cat(self._seen)
            self.images.fill_(len(labels))
            self.classes.fill_(len(labels.unique()))
            self._seen = []
