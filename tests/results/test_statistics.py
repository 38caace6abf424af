"""Intervals and tests against their formulas, scipy, and simulations with a known difference."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from benchmarks.coverage import coverage
from cliptune.results.statistics import Interval, holm, mcnemar, paired_bootstrap, paired_t, proportion, signed_rank


def test_t_interval_is_that_of_scipy():
    a, b = np.array([70.0, 72.5, 69.0, 74.0]), np.array([73.0, 73.5, 74.0, 75.5])
    found = paired_t(b - a)
    expected = stats.ttest_rel(b, a)
    interval = expected.confidence_interval(0.95)
    assert found.interval.estimate == pytest.approx((3 + 1 + 5 + 1.5) / 4)
    assert (found.interval.low, found.interval.high) == (pytest.approx(interval.low), pytest.approx(interval.high))
    assert (found.p, found.n) == (pytest.approx(expected.pvalue), 4)


def test_seeds_that_change_nothing_say_nothing():
    found = paired_t([2.0, 2.0, 2.0])
    assert found.interval == Interval(2.0, -math.inf, math.inf)
    assert (found.p, found.interval.sign) == (1.0, 0)


def test_one_seed_is_a_sentence():
    with pytest.raises(ValueError, match=r"needs at least two pairs, got 1\. Run more seeds"):
        paired_t([3.0])


def test_the_bootstrap_is_that_of_images_drawn_one_by_one():
    random = np.random.default_rng(5)
    groups = [random.choice([-1.0, 0.0, 1.0], size=n, p=[0.1, 0.6, 0.3]) for n in (200, 300)]
    found = paired_bootstrap(groups)
    plain = [np.mean([random.choice(g, size=len(g)).mean() for g in groups]) for _ in range(2000)]
    assert found.estimate == pytest.approx(np.mean([g.mean() for g in groups]))
    low, high = np.quantile(plain, [0.025, 0.975])
    assert (found.low, found.high) == (pytest.approx(low, abs=0.01), pytest.approx(high, abs=0.01))
    assert found == paired_bootstrap(groups)  # the draws are seeded
    assert found != paired_bootstrap(groups, seed=1)


def test_the_bootstrap_of_scipy_is_near():
    values = np.random.default_rng(2).choice([-1.0, 0.0, 1.0], size=400, p=[0.05, 0.8, 0.15])
    theirs = stats.bootstrap((values,), np.mean, n_resamples=2000, method="percentile", random_state=0)
    found = paired_bootstrap([values])
    assert found.low == pytest.approx(theirs.confidence_interval.low, abs=0.006)
    assert found.high == pytest.approx(theirs.confidence_interval.high, abs=0.006)


@pytest.mark.parametrize(("only_first", "only_second"), [(0, 0), (0, 1), (3, 12), (40, 20), (7, 7)])
def test_mcnemar_is_twice_the_smaller_tail(only_first, only_second):
    both = [True] * 5
    first = both + [True] * only_first + [False] * only_second
    second = both + [False] * only_first + [True] * only_second
    found = mcnemar(first, second)
    assert (found.only_first, found.only_second) == (only_first, only_second)
    n, k = only_first + only_second, min(only_first, only_second)
    tail = sum(math.comb(n, i) for i in range(k + 1)) / 2**n
    assert found.p == pytest.approx(min(1.0, 2 * tail))
    if n:
        assert found.p == pytest.approx(stats.binomtest(k, n).pvalue)


def test_wilcoxon_counts_every_sign_pattern():
    differences = [1.5, -0.25, 3.0, 0.0, 2.0, 0.75]
    found = signed_rank(differences)
    assert (found.wins, found.ties, found.losses) == (4, 1, 1)
    ranks = [3, -1, 5, 4, 2]  # of the differences that are not zero
    plus = sum(r for r in ranks if r > 0)
    sums = [sum(r for i, r in enumerate(range(1, 6)) if bits >> i & 1) for bits in range(2**5)]
    p = 2 * min(sum(s >= plus for s in sums), sum(s <= plus for s in sums)) / 2**5
    assert found.p == pytest.approx(min(1.0, p))
    assert signed_rank([0.0, 1e-12]).p == 1.0
    assert signed_rank([0.0, 1e-12]).ties == 2


def test_holm_steps_down():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.01, None, 0.9, 0.8]) == pytest.approx([0.03, None, 1.0, 1.0])
    assert holm([]) == []


def test_holm_rejects_what_the_step_down_rule_rejects():
    for p_values in np.random.default_rng(0).uniform(0, 0.1, size=(50, 6)):
        order = np.argsort(p_values)
        rejected = set()
        for rank, i in enumerate(order):
            if p_values[i] > 0.05 / (len(p_values) - rank):
                break
            rejected.add(int(i))
        assert {i for i, p in enumerate(holm(p_values.tolist())) if p <= 0.05} == rejected


@pytest.mark.parametrize("points", [0.0, 3.0])
@pytest.mark.parametrize("kind", ["seeds", "images"])
def test_intervals_hold_the_planted_difference(kind, points):
    """Of 400 intervals of 95 %, 93 % or more hold what was planted."""
    found = coverage(kind, points, simulations=400, seed=7)
    assert found.covered >= 0.93
    assert found.mean == pytest.approx(points, abs=0.3)


def test_a_difference_of_nothing_is_seldom_found_and_one_of_three_points_often():
    assert coverage("images", 0.0, simulations=400, seed=3).found <= 0.07
    assert coverage("images", 3.0, simulations=400, seed=3).found >= 0.9


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: paired_bootstrap([]), "expected at least one group"),
        (lambda: paired_bootstrap([[]]), "at least one finite number"),
        (lambda: mcnemar([True], [True, False]), "answers to the same images"),
        (lambda: signed_rank([math.nan]), "at least one finite number"),
    ],
)
def test_what_cannot_be_computed_is_a_sentence(call, sentence):
    with pytest.raises(ValueError, match=sentence):
        call()


@pytest.mark.parametrize(("k", "n"), [(0, 5), (5, 5), (3, 7), (50, 162)])
def test_a_share_has_wilsons_interval(k, n):
    z, p = 1.959963984540054, k / n
    middle = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * math.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    found = proportion(k, n)
    assert (found.estimate, found.low, found.high) == pytest.approx((p, middle - half, middle + half), abs=1e-12)


@pytest.mark.parametrize(("k", "n"), [(0, 0), (-1, 4), (5, 4)])
def test_a_share_of_what_cannot_be_is_refused(k, n):
    with pytest.raises(ValueError, match="at least one trial and 0 to n successes"):
        proportion(k, n)
