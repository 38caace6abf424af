"""What a head is."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from cliptune.texts import TextBatch


class Head(nn.Module):
    """Similarities (B, V, K) → logits (B, C). Most heads learn nothing; some count, some fit.

    `class_specific`: true once it holds values per class, so that it cannot speak of other classes.
    `in_embedding_space`: true if it holds features as its backbone makes them, which mean nothing to another one.
    `growing`: names of its tensors whose first size depends on the data, and comes with what is loaded.
    `settled`: false while it waits to be shown the text features (see `settle`), always so if it needs them every time.
    `chosen`: what it chose on validation images: "images", their number, and "chose", symbol → value. None for others.
    `order`: seed of the order in which `evaluate` shows it the images of a split, where answers depend on those before.
    `notes`: what it chose by itself where an option was left out, a sentence each.
    `listener`: is told what a long `refit` is doing, as `listener(line, minor)`.
    `share`: of that `refit`, what is done, in (0, 1]; None where it is not known.
    """

    class_specific = False
    in_embedding_space = False
    settled = True
    growing: frozenset[str] = frozenset()
    chosen: Mapping[str, Any] | None = None
    listener: Callable[[str, bool], None] | None = None
    share: float | None = None
    order: int | None = None
    notes: tuple[str, ...] = ()

    def forward(self, similarity: Tensor, texts: TextBatch, image_embedding: Tensor) -> Tensor:
        """Args: similarity (B, V, K), scaled; image_embedding (B, V, D), before unit norm."""
        raise NotImplementedError

    def settle(self, text_features: Tensor, texts: TextBatch) -> None:
        """See the unit text features (I, K, D) before an answer, unless `settled`; heads group texts here."""

    def for_classes(self, text_features: Tensor, places: tuple[int, ...]) -> Head:
        """This head as it speaks of other classes than the trained list; the same head where it has no class values.

        Args: text_features (I, K, D) unit, of those classes. places: of each among the trained ones, −1 for a new one.
        """
        return self

    def observe(self, out: Any, labels: Tensor, split: str = "train") -> None:
        """See a batch of outputs with its labels; heads that count or fit keep what they need."""

    @contextmanager
    def stream(self) -> Iterator[None]:
        """Images that are shown inside the block come one after the other, whatever batches they are in."""
        yield

    def refit(self) -> None:
        """An epoch, or an observing stage, has ended."""

    def say(self, line: str, minor: bool = False, share: float | None = None) -> None:
        """Tell the listener, if there is one; a line is `minor` that says how far the work is, a `share` in (0, 1]."""
        if share is not None:
            self.share = share
        if self.listener is not None:
            self.listener(line, minor)

    def grow(self, shapes: Mapping[str, torch.Size]) -> None:
        """Make room for tensors of these shapes, one for each name in `growing`."""

    def fold(self, text_features: Tensor, texts: TextBatch, views: int) -> Tensor:
        """One vector per view and class, (V, C, D), whose products with the image features are the logits / scale.

        Args: text_features (K, D) unit.
        Raises: ValueError where logits are not linear in the similarities.
        """
        raise ValueError(
            f"{type(self).__name__}: this head is not linear in the similarities, so it cannot be folded into one "
            "matrix. Keep the adapter as it is, or use a head with fixed weights."
        )


def check_finite(embedding: Tensor, split: str, who: str) -> None:
    """Raises: ValueError if embeddings (N, ...) of a split are infinite or not a number."""
    wrong = ~embedding.isfinite().flatten(1).all(dim=1)
    if bool(wrong.any()):
        images = {"train": "training", "val": "validation"}.get(split, split)
        raise ValueError(
            f"{who}: embeddings must be finite, and {int(wrong.sum())} of {len(wrong)} {images} images have others, "
            f"the first at position {int(wrong.nonzero()[0])}. Look for damaged images, or use precision 'fp32'."
        )
