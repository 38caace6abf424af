"""Two caches of the images that came before: one of likely classes, one of unlikely ones."""

from __future__ import annotations

import math
from bisect import insort
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor

from cliptune.heads.base import Head
from cliptune.texts import TextBatch


class StreamHead(Head):
    """logits = z + α exp(−β (1 − f K⁺ᵀ)) L⁺ − α₋ exp(−β₋ (1 − f K⁻ᵀ)) L⁻, with z = s f T̂ᵀ the votes of the texts.

    Images are answered one after the other, without labels; each first goes into the caches under the class ŷ that z
    names, and is then answered. K⁺ keeps, of every class, the images with the smallest entropy H of softmax(z), L⁺ is
    ŷ one-hot. K⁻ does so for images with `least` < H / log₂ C < `most`, H in nats as released, and L⁻ marks the classes
    whose probability lies between the ends of `unlikely`, so that they are taken away from images alike.

    Args:
        alpha: α > 0, weight of the likely cache. beta: β > 0, its sharpness.
        shots: images of a class in it, at least 1.
        negative_alpha: α₋ ≥ 0. negative_beta: β₋ > 0. negative_shots: images of a class in it, at least 1.
        least, most: of the entropy of what the other cache takes, see above.
        unlikely: ends of the probability of classes that it marks, in [0, 1].
        order: seed of the order in which the images of a split are shown to it by `evaluate`.
        surest: share of an image's views whose mean stands for it, those with the smallest H; above 0 and at most 1.
            Below 1 the mean feature keeps its length, and H is that of the mean probability, as released.

    A call outside of `stream` answers its batch as a stream of its own, and nothing is kept. There are no values per
    class, so that it speaks of any classes. In training, as of an add-on, there are no caches: they are of images that
    are asked about.
    Source: TDA (arXiv:2403.18293, Eq. 3 to 8), as its release computes it (tda_runner.py, utils.py).
    """

    seed: Tensor

    def __init__(
        self,
        alpha: float,
        beta: float,
        shots: int,
        negative_alpha: float,
        negative_beta: float,
        negative_shots: int,
        least: float,
        most: float,
        unlikely: tuple[float, float],
        order: int,
        surest: float = 1.0,
    ) -> None:
        super().__init__()
        for name, value in (("alpha", alpha), ("beta", beta), ("negative_beta", negative_beta)):
            if not 0 < value < math.inf:
                raise ValueError(f"StreamHead: {name} must be above 0, got {value}. Use zeroshot for the texts alone.")
        for name, value in (("shots", shots), ("negative_shots", negative_shots)):
            if value < 1:
                raise ValueError(f"StreamHead: {name} must be at least 1 image of a class, got {value}.")
        if not 0 <= negative_alpha < math.inf:
            raise ValueError(
                f"StreamHead: negative_alpha must be at least 0, which leaves it out, got {negative_alpha}."
            )
        if not (least < most and 0 <= unlikely[0] < unlikely[1] <= 1):
            raise ValueError(
                "StreamHead: entropies and probabilities must have a lower end below the upper one, probabilities in "
                f"[0, 1], got {least} to {most} and {unlikely[0]} to {unlikely[1]}."
            )
        if not 0 < surest <= 1:
            raise ValueError(f"StreamHead: surest must be above 0 and at most 1, which is all views, got {surest}.")
        self.alpha, self.beta, self.shots, self.surest = alpha, beta, shots, surest
        self.negative_alpha, self.negative_beta, self.negative_shots = negative_alpha, negative_beta, negative_shots
        self.least, self.most, self.unlikely = least, most, unlikely
        # A part of what a run keeps: opened again, it asks for the same order.
        self.register_buffer("seed", torch.tensor(order))
        self._open: tuple[_Cache, _Cache] | None = None
        self._streaming = False

    @property
    def order(self) -> int:  # type: ignore[override]
        return int(self.seed)

    @contextmanager
    def stream(self) -> Iterator[None]:
        before = self._open, self._streaming
        self._open, self._streaming = None, True
        try:
            yield
        finally:
            self._open, self._streaming = before

    def forward(self, similarity: Tensor, texts: TextBatch, image_embedding: Tensor) -> Tensor:
        if self.training:
            return similarity.mean(dim=1)
        with torch.no_grad():
            unit = F.normalize(image_embedding.float(), dim=-1)
            votes, feature, probability = self._joined(similarity.float(), unit)
            likely, other = self._caches(votes.shape[1], feature)
            images = zip(votes, feature, probability, strict=True)
            moved = [self._moved(z, f, p, likely, other) for z, f, p in images]
        if self.surest == 1:
            votes = similarity.mean(dim=1)
        return votes + torch.stack(moved).to(votes.dtype) if moved else votes

    def _joined(self, votes: Tensor, feature: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Views (B, V, C) and (B, V, D) of images → votes (B, C), features (B, D) and probabilities (B, C)."""
        if self.surest == 1:
            mean = votes.mean(dim=1)
            return mean, F.normalize(feature.mean(dim=1), dim=-1), mean.softmax(dim=-1)
        log = votes.log_softmax(dim=-1)
        entropy = -(log.exp() * log).sum(dim=-1)
        chosen = entropy.argsort(dim=1, stable=True)[:, : max(1, int(self.surest * votes.shape[1]))]
        of = lambda values: values.gather(1, chosen[..., None].expand(-1, -1, values.shape[-1])).mean(dim=1)
        return of(votes), of(feature), of(log.exp())

    def _moved(self, votes: Tensor, feature: Tensor, probability: Tensor, likely: _Cache, other: _Cache) -> Tensor:
        """What the caches add to the votes (C,) of one image, which they see first."""
        entropy, label = float(-torch.xlogy(probability, probability).sum()), int(votes.argmax())
        likely.add(label, entropy, feature, F.one_hot(torch.tensor(label), len(votes)))
        if self.negative_alpha and self.least < entropy / math.log2(len(votes)) < self.most:
            marked = (probability > self.unlikely[0]) & (probability < self.unlikely[1])
            other.add(label, entropy, feature, marked)
        return self.alpha * likely.votes(feature, self.beta) - self.negative_alpha * other.votes(
            feature, self.negative_beta
        )

    def _caches(self, classes: int, like: Tensor) -> tuple[_Cache, _Cache]:
        """Those of the open stream, or empty ones."""
        if self._open is not None and self._open[0].classes == classes:
            return self._open
        caches = _Cache(classes, self.shots, like), _Cache(classes, self.negative_shots, like)
        if self._streaming:
            self._open = caches
        return caches


class _Cache:
    """At most so many images of each class, those with the smallest entropy.

    Args: like: a tensor (…, D) of the device and type that it is on.
    """

    def __init__(self, classes: int, shots: int, like: Tensor) -> None:
        self.classes, self.shots = classes, shots
        self.keys = like.new_zeros(classes * shots, like.shape[-1])
        self.values = like.new_zeros(classes * shots, classes)  # an empty row says nothing
        self.kept: list[list[tuple[float, int]]] = [[] for _ in range(classes)]

    def add(self, label: int, entropy: float, feature: Tensor, value: Tensor) -> None:
        """In the place of the image of the class that is least sure, if that is less sure, where all are taken."""
        kept = self.kept[label]
        if len(kept) < self.shots:
            row = label * self.shots + len(kept)
        elif entropy < kept[-1][0]:
            _, row = kept.pop()
        else:
            return
        self.keys[row], self.values[row] = feature, value.to(self.values)
        insort(kept, (entropy, row), key=lambda one: one[0])

    def votes(self, feature: Tensor, beta: float) -> Tensor:
        return (-beta * (1 - self.keys @ feature)).exp() @ self.values
