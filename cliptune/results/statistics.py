"""Whether two methods differ: paired intervals and tests on plain arrays. scipy does the distributions.

Differences are b − a, in the unit of what is given. Nothing here knows of runs; `against` does.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

DRAWS = 2000
"""Draws of a bootstrap."""
TIE = 1e-9
"""Differences no larger than this are none: they come from rounding."""


@dataclass(frozen=True)
class Interval:
    """An estimate between the ends of its confidence interval."""

    estimate: float
    low: float
    high: float

    @property
    def sign(self) -> int:
        """+1 or −1 if the whole interval lies on that side of zero, else 0."""
        return int(self.low > 0) - int(self.high < 0)


@dataclass(frozen=True)
class PairedT:
    """Student's paired t: the interval, the two-sided p-value and the number of pairs."""

    interval: Interval
    p: float
    n: int


@dataclass(frozen=True)
class McNemar:
    """How often only the one, and only the other, was right; the two-sided p-value of the exact binomial test."""

    only_first: int
    only_second: int
    p: float


@dataclass(frozen=True)
class SignedRank:
    """Wilcoxon's test: how many differences are above zero, zero and below; the two-sided p-value."""

    wins: int
    ties: int
    losses: int
    p: float


def proportion(successes: int, n: int, level: float = 0.95) -> Interval:
    """A share with Wilson's score interval, which has a width also where all or none succeed.  (Wilson 1927)

    Args:
        successes: from 0 to n, such as right answers. n: at least 1.
        level: of confidence, in (0, 1).
    Returns: shares in [0, 1].
    """
    if not 0 <= successes <= n or n < 1:
        raise ValueError(f"proportion: expected at least one trial and 0 to n successes, got {successes} of {n}.")
    ends = stats.binomtest(successes, n).proportion_ci(level, method="wilson")
    return Interval(successes / n, float(ends.low), float(ends.high))


def paired_t(differences: ArrayLike, level: float = 0.95) -> PairedT:
    """The mean of paired differences with Student's interval, mean ± t(n − 1) · s / √n, s with ddof 1.

    Differences that are all equal say nothing about their error: the interval is then the whole line, and p is 1.

    Args:
        differences: (n,), n ≥ 2, one for each pair (a seed).
        level: of confidence, in (0, 1).
    Raises: ValueError for fewer than two pairs.
    """
    values = _checked(differences, "paired_t")
    if len(values) < 2:
        raise ValueError(
            f"paired_t: an interval over seeds needs at least two pairs, got {len(values)}. Run more seeds."
        )
    mean, spread = float(values.mean()), float(values.std(ddof=1))
    if spread <= TIE:
        return PairedT(Interval(mean, -math.inf, math.inf), 1.0, len(values))
    error = spread / math.sqrt(len(values))
    half = float(stats.t.ppf((1 + level) / 2, len(values) - 1)) * error
    p = float(2 * stats.t.sf(abs(mean) / error, len(values) - 1))
    return PairedT(Interval(mean, mean - half, mean + half), p, len(values))


def paired_bootstrap(
    groups: Sequence[ArrayLike], *, draws: int = DRAWS, seed: int = 0, level: float = 0.95
) -> Interval:
    """The mean over groups of the mean difference, with the percentile interval of a bootstrap over the members of each
    group.  (Efron and Tibshirani 1993, Ch. 13)

    As many members as there are are drawn with replacement. Only how often each value is drawn matters, and that is
    multinomial: drawn so, the bootstrap costs as much for 50,000 images as for 50.

    Args:
        groups: each (N,), N ≥ 1, the differences of its members: of an image, right (1) or wrong (0) of the one method
            less that of the other; where several seeds saw the same images, the mean over the seeds, since their errors
            are not independent.
        draws: at least 1.
        seed: of the draws.
        level: of confidence, in (0, 1).
    Raises: ValueError if there is no group, or an empty one.
    """
    if not groups or draws < 1:
        raise ValueError(f"paired_bootstrap: expected at least one group and one draw, got {len(groups)} and {draws}.")
    random = np.random.default_rng(seed)
    drawn, estimate = np.zeros(draws), 0.0
    for group in groups:
        values = _checked(group, "paired_bootstrap")
        different, counts = np.unique(values, return_counts=True)
        # float64 all the way: the shares have to sum to one for the multinomial.
        drawn += random.multinomial(len(values), counts / len(values), size=draws) @ different / len(values)
        estimate += float(values.mean())
    drawn /= len(groups)
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return Interval(estimate / len(groups), float(low), float(high))


def mcnemar(first: ArrayLike, second: ArrayLike) -> McNemar:
    """McNemar's exact test that two methods are right equally often on the same images: of the images that only one of
    them gets right, either has half, up to chance (binomial).  (McNemar 1947)

    Args:
        first, second: (N,) bool, right or wrong on each image.
    Raises: ValueError if they are not of one length.
    """
    a, b = np.asarray(first, dtype=bool), np.asarray(second, dtype=bool)
    if a.shape != b.shape or a.ndim != 1:
        raise ValueError(f"mcnemar: expected two rows of answers to the same images, got shapes {a.shape}, {b.shape}.")
    only_first, only_second = int((a & ~b).sum()), int((b & ~a).sum())
    discordant = only_first + only_second
    p = float(stats.binomtest(only_second, discordant, 0.5).pvalue) if discordant else 1.0
    return McNemar(only_first, only_second, p)


def signed_rank(differences: ArrayLike) -> SignedRank:
    """Wilcoxon's signed-rank test over data sets, with wins, ties and losses.  (Wilcoxon 1945; for classifiers Demšar
    2006, Sec. 3.1.3)

    Ties are left out of the test. It is exact for up to 50 differences without equal sizes.

    Args:
        differences: (D,), D ≥ 1, one for each data set.
    """
    values = _checked(differences, "signed_rank")
    wins, losses = int((values > TIE).sum()), int((values < -TIE).sum())
    moved = values[np.abs(values) > TIE]
    p = float(stats.wilcoxon(moved).pvalue) if len(moved) else 1.0
    return SignedRank(wins, len(values) - wins - losses, losses, p)


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Adjusted p-values that control the family-wise error, whatever depends on what.  (Holm 1979)

    The i-th smallest of m is multiplied by m − i + 1, made no smaller than the one before, and cut at 1.

    Args:
        p_values: in [0, 1]; None where no test was made, which then counts for nothing.
    Returns: in the same order.
    """
    made = sorted((p, i) for i, p in enumerate(p_values) if p is not None)
    adjusted: list[float | None] = [None] * len(p_values)
    largest = 0.0
    for rank, (p, i) in enumerate(made):
        largest = max(largest, min(1.0, p * (len(made) - rank)))
        adjusted[i] = largest
    return adjusted


def _checked(values: ArrayLike, who: str) -> NDArray[np.float64]:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or not len(array) or not np.isfinite(array).all():
        raise ValueError(f"{who}: expected a row of at least one finite number, got shape {array.shape}.")
    return array
