"""When a claim about numbers of several seeds holds."""

from __future__ import annotations

import pytest
from scipy import stats

from benchmarks.claims import Claim, spread

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
