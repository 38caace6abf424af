"""What answers alone show: whether they are as sure as they are right, class by class, and the surest mistakes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from cliptune.analysis.finding import PICTURES, Finding

BINS = 15
_Z = 1.959963984540054


@dataclass(frozen=True)
class Reliability(Finding):
    """How sure answers are and how often they are right, in equally wide bins ((m−1)/M, m/M] of confidence.

    Args:
        confidence, accuracy: (M,) float64, means within a bin in [0, 1]; NaN in an empty one.
        count: (M,) int64 images.
        ece: expected calibration error in %, Σ n_m |accuracy_m − confidence_m| / N.
    Source: arXiv:1706.04599, Sec. 2 and Eq. 3.
    """

    confidence: Tensor
    accuracy: Tensor
    count: Tensor
    ece: float

    def sentence(self) -> str:
        n = float(self.count.sum())
        sure, right = (float((v.nan_to_num() * self.count).sum()) / n for v in (self.confidence, self.accuracy))
        way = "too sure" if sure > right else "not sure enough"
        return (
            f"Answers are {100 * sure:.1f} % sure on average and {100 * right:.1f} % are right, so they are {way} by "
            f"{100 * abs(sure - right):.1f} points; the expected calibration error is {self.ece:.1f} % in "
            f"{len(self.count)} bins ({int(n):,} images)."
        )


def reliability(logits: Tensor, labels: Tensor, bins: int = BINS) -> Reliability:
    """Bin the answers (N, C) to images of known classes (N,). Raises: ValueError for no image or no bin."""
    if bins < 1 or not len(labels):
        raise ValueError(f"reliability: expected at least one bin and one image, got {bins} and {len(labels)}.")
    sure, predicted = logits.double().softmax(dim=-1).max(dim=-1)
    right = (predicted == labels).double()
    at = (sure * bins).ceil().long().clamp(1, bins) - 1
    count = torch.bincount(at, minlength=bins)
    sums = [torch.zeros(bins, dtype=torch.float64).index_add_(0, at, values) for values in (sure, right)]
    ece = 100 * float((sums[1] - sums[0]).abs().sum()) / len(labels)
    return Reliability(sums[0] / count, sums[1] / count, count, ece)


@dataclass(frozen=True)
class ClassAccuracies(Finding):
    """Accuracy class by class.

    Args:
        class_names: C.
        accuracy, before: (C,) float64 in %, of the adapter and of the frozen CLIP; NaN for a class without images.
        low, high: (C,) Wilson's 95 % interval of the adapter's, over images.
        n: (C,) int64 images.
    """

    class_names: tuple[str, ...]
    accuracy: Tensor
    before: Tensor
    low: Tensor
    high: Tensor
    n: Tensor

    def sentence(self) -> str:
        there = self.n > 0
        worst = int(self.accuracy.nan_to_num(nan=math.inf).argmin())
        gain = (self.accuracy - self.before).nan_to_num(nan=-math.inf)
        best = int(gain.argmax())
        lost = int(((self.accuracy < self.before) & there).sum())
        gained = (
            f"{self.class_names[best]!r} gained most over the frozen CLIP ({float(gain[best]):+.0f} points)"
            if float(gain[best]) > 0
            else "no class gained over the frozen CLIP"
        )
        return (
            f"The worst of {int(there.sum())} classes is {self.class_names[worst]!r} with "
            f"{float(self.accuracy[worst]):.0f} % (95 % interval {float(self.low[worst]):.0f} to "
            f"{float(self.high[worst]):.0f} %, {int(self.n[worst])} images); {gained}, and {lost} of "
            f"{int(there.sum())} lost."
        )


def class_accuracies(labels: Tensor, predicted: Tensor, before: Tensor, class_names: Sequence[str]) -> ClassAccuracies:
    """Count right answers (N,) of the adapter and of the frozen CLIP, class by class."""
    classes = len(class_names)
    n = torch.bincount(labels, minlength=classes)
    right, earlier = (torch.bincount(labels[p == labels], minlength=classes).double() for p in (predicted, before))
    p, size = right / n, n.double()
    middle = (p + _Z**2 / (2 * size)) / (1 + _Z**2 / size)
    half = _Z / (1 + _Z**2 / size) * (p * (1 - p) / size + _Z**2 / (4 * size**2)).sqrt()
    low, high = (100 * (middle + sign * half).clamp(0, 1) for sign in (-1, 1))
    return ClassAccuracies(tuple(class_names), 100 * p, 100 * earlier / n, low, high, n)


@dataclass(frozen=True)
class Mistake:
    """An image that is named wrongly.

    Args:
        image: its name.
        true, predicted: names.
        probability, of_true: of the answer and of the true class, in [0, 1].
        picture: (3, R, R) in [0, 1].
    """

    image: str
    true: str
    predicted: str
    probability: float
    of_true: float
    picture: Tensor = field(metadata=PICTURES)


@dataclass(frozen=True)
class Mistakes(Finding):
    """The most certain mistakes.

    Args:
        shown: most certain first.
        wrong, n: how many images are named wrongly, of how many.
    """

    shown: tuple[Mistake, ...]
    wrong: int
    n: int

    def sentence(self) -> str:
        if not self.shown:
            return f"None of {self.n:,} images is named wrongly."
        first = self.shown[0]
        return (
            f"{self.wrong} of {self.n:,} images are named wrongly; the most certain mistake takes {first.image} for "
            f"{first.predicted!r} with {first.probability:.0%}, though it is {first.true!r} ({first.of_true:.0%})."
        )


def most_certain_mistakes(logits: Tensor, labels: Tensor, n: int = 12) -> Tensor:
    """Positions of at most n images that are named wrongly, the most certain first, of equals the earlier."""
    sure, predicted = logits.double().softmax(dim=-1).max(dim=-1)
    wrong = (predicted != labels).nonzero()[:, 0]
    return wrong[sure[wrong].argsort(descending=True, stable=True)][:n]
