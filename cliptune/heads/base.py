"""What a head is."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from cliptune.texts import TextBatch


class Head(nn.Module):
    """Similarities (B, V, K) → logits (B, C). Most heads learn nothing; some count, some fit.

    `class_specific`: true once it holds values per class, so that it cannot speak of other classes.
    """

    class_specific = False

    def forward(self, similarity: Tensor, texts: TextBatch, image_embedding: Tensor) -> Tensor:
        """Args: similarity (B, V, K), scaled; image_embedding (B, V, D), before unit norm."""
        raise NotImplementedError

    def observe(self, out: Any, labels: Tensor, split: str = "train") -> None:
        """See a batch of outputs with its labels; heads that count or fit keep what they need."""

    def refit(self) -> None:
        """An epoch, or an observing stage, has ended."""
