"""How sure an answer may be: a temperature, and sets of classes that hold the right one as often as asked."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

# Ends of what a temperature may be.
COLDEST, HOTTEST = 1e-3, 1e3
_HALVINGS = 60


@dataclass(frozen=True)
class Calibration:
    """What held-out images say of an adapter's answers.

    Args:
        temperature: T > 0 by which logits are divided before the softmax.
        scores: of the n held-out images, 1 − p of the true class after the temperature, ascending, each in [0, 1].
        parts: in which the images were held out, each once.
        accuracy: in % of the held-out images.
        ece, ece_before: expected calibration error in % of the held-out images, with the temperature and without.
        notes: what was left out or decided, a sentence each.
    """

    temperature: float
    scores: tuple[float, ...]
    parts: int
    accuracy: float
    ece: float
    ece_before: float
    notes: tuple[str, ...] = ()

    def threshold(self, coverage: float) -> float:
        """The largest score of a class in sets of this coverage: of n scores the ⌈(n + 1) coverage⌉-th smallest.

        Args:
            coverage: share of images whose set is to hold the true class, in (0, 1).
        Raises: ValueError for another share, or for one that so few images cannot promise.
        Source: split conformal prediction (arXiv:2107.07511, Sec. 1).
        """
        if not 0 < coverage < 1:
            raise ValueError(f"Calibration: coverage must lie between 0 and 1, such as 0.9, got {coverage:g}.")
        n = len(self.scores)
        rank = math.ceil(round((n + 1) * coverage, 9))
        if rank > n:
            needed = math.ceil(round(coverage / (1 - coverage), 9))
            raise ValueError(
                f"Calibration: {n} held-out images carry sets of at most {n / (n + 1):.3f}, got {coverage:g}, which "
                f"takes {needed}. Ask for less, or train on more images."
            )
        return self.scores[rank - 1]

    def sets(self, probabilities: Tensor, coverage: float) -> Tensor:
        """Which classes are in the set of each image.

        A class is in it if 1 − p is no larger than `threshold`. The most probable class always is: an empty set says
        nothing, and to fill it can only raise the coverage.

        Args:
            probabilities: (B, C), after the temperature.
        Returns: (B, C) bool.
        Source: least ambiguous sets (arXiv:1609.00451), which have the fewest classes of all sets of their coverage
            where the probabilities are right, and need no random draw as adaptive sets do (arXiv:2006.02544).
        """
        inside = scores_of(probabilities) <= self.threshold(coverage)
        return inside.scatter(-1, probabilities.argmax(dim=-1, keepdim=True), True)


@dataclass(frozen=True)
class PredictionSets:
    """Sets of classes.

    Args:
        inside: (B, C) bool. probabilities: (B, C), after the temperature.
        coverage: share of images whose set is to hold the true class.
        class_names: C.
    """

    inside: Tensor
    probabilities: Tensor
    coverage: float
    class_names: tuple[str, ...]

    @property
    def sizes(self) -> Tensor:
        """(B,) classes in each set, at least 1."""
        return self.inside.sum(dim=-1)

    @property
    def names(self) -> list[tuple[str, ...]]:
        """The classes of each set, the most probable first."""
        order = self.probabilities.argsort(dim=-1, descending=True, stable=True)
        return [
            tuple(self.class_names[label] for label in labels if row[label])
            for labels, row in zip(order.tolist(), self.inside.tolist(), strict=True)
        ]


def scores_of(probabilities: Tensor) -> Tensor:
    """1 − p in float64."""
    return 1 - probabilities.double()


def softened(logits: Tensor, temperature: float) -> Tensor:
    """softmax(logits / T), (…, C); float64 as far as the logits are."""
    return (logits if temperature == 1.0 else logits / temperature).softmax(dim=-1)


def true_scores(logits: Tensor, labels: Tensor, temperature: float) -> tuple[float, ...]:
    """The ascending scores of the true classes (N,) of logits (N, C)."""
    own = scores_of(softened(logits.double(), temperature)).gather(-1, labels[:, None])[:, 0]
    return tuple(own.clamp(0, 1).sort().values.tolist())


def fit_temperature(logits: Tensor, labels: Tensor) -> float:
    """The T with which held-out images are as sure on average as they are right, in [0.001, 1000].

    One image more than there are is taken to be answered by chance, so that T does not go to 0 where every one is
    right. The mean of the largest probability falls with T, so that its place is found by halving. 1 where no logit
    differs from another.

    The likelihood of the labels, which is the usual measure, is not maximised: a class that is always rated far too
    low, as one whose name means nothing, then makes all answers unsure. (Mean calibration error on test images of eight
    heads on Tinyworld's symbols, 8 shots: 21 % without, 21 % by likelihood, 8 % so.)

    Args:
        logits: (N, C) of images that the adapter was not trained on. labels: (N,).
    Raises: ValueError if there is no image, or another number of labels.
    Source: expectation consistency (arXiv:2303.02644); the further image is ours.
    """
    if logits.ndim != 2 or not len(logits) or len(logits) != len(labels):
        raise ValueError(
            f"fit_temperature: expected logits (N, C) with N labels, N at least 1, got {tuple(logits.shape)} and "
            f"{tuple(labels.shape)}."
        )
    z = logits.detach().cpu().double()
    if not (z.amax(dim=-1) > z.amin(dim=-1)).any():
        return 1.0
    right = float((z.argmax(dim=-1) == labels.cpu()).sum())
    wanted = (right + 1 / z.shape[1]) / (len(z) + 1)
    low, high = math.log(COLDEST), math.log(HOTTEST)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if float(softened(z, math.exp(middle)).amax(dim=-1).mean()) > wanted:
            low = middle
        else:
            high = middle
    return math.exp((low + high) / 2)
