"""When a claim about numbers of several seeds holds."""

from __future__ import annotations

import pytest
from scipy import stats

from benchmarks.claims import Asked, Claim, spread, verdicts
from cliptune.results import Comparison, Row, corrected
from cliptune.results.statistics import paired_t

VALUES = [3.0, 5.0, 4.0, 6.0, 4.5]


def test_the_interval_is_students():
    expected = stats.ttest_1samp(VALUES, 0).confidence_interval(0.95)
    assert Claim("gain", VALUES, digits=3).interval == f"+4.500 [{expected.low:+.3f}, {expected.high:+.3f}]"


@pytest.mark.parametrize(("bound", "verdict"), [(2.0, "holds"), (4.5, "undecided"), (8.0, "does not hold")])
def test_a_claim_holds_where_the_bound_lies_below_the_interval(bound, verdict):
    assert Claim("gain", VALUES, bound).verdict == verdict


def test_seeds_that_all_agree_decide_nothing():
    assert Claim("gain", [1.0, 1.0, 1.0]).verdict == "undecided"


@pytest.mark.parametrize("values", [[], [1.0]])
def test_fewer_than_two_seeds_decide_nothing(values):
    claim = Claim("gain", values)
    assert (claim.interval, claim.verdict) == ("–", "undecided")


def test_spread_is_over_seeds():
    assert spread([1.0, 2.0, 3.0]) == "2.0 ± 1.0"


WEAK = [2.0, 0.2, 1.6, 0.9, 0.3]
"""Told from zero alone, not as one of several such lines."""


def asked(*rows: list[float]) -> list[Asked]:
    """Lines of one table, with these differences."""
    row = Row("badges", "vp", 16, 1, (1, 2, 3, 4, 5))
    found = [
        Comparison(row, row, "test", row.seeds, tuple(values), (0.0,) * len(values), paired_t(values))
        for values in rows
    ]
    return [Asked("badges", "more", one) for one in corrected(found)]


def test_verdicts_are_of_the_corrected_test():
    low = [-value for value in VALUES]
    assert [one.verdict for one in asked(VALUES, WEAK, low)] == ["holds", "holds", "does not hold"]
    assert {one.verdict for one in asked(WEAK, WEAK, WEAK)} == {"undecided"}


def test_a_line_has_the_plain_interval_and_the_corrected_p():
    head, _, first, _ = verdicts(asked(WEAK, WEAK)).splitlines()
    t = stats.ttest_1samp(WEAK, 0)
    low, high = t.confidence_interval(0.95)
    assert head == "| suite | claim | difference (95 %) | p (Holm) | verdict |"
    assert first == f"| badges | more | +1.0 (+{low:.1f} … +{high:.1f}) | {2 * t.pvalue:.2g} | undecided |"


def test_seeds_that_never_differ_have_no_interval():
    (same,) = asked([-1.0, -1.0])
    assert (same.difference, same.p, same.verdict) == ("−1.0", "1", "undecided")
