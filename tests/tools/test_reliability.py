"""The reliability campaigns at small sizes; their own sizes are run by `make nightly-scale`."""

import pytest

from tools.reliability import clocks, full_disk


def test_a_full_disk_at_some_calls_gives_a_sentence_and_loses_nothing(tmp_path):
    counts = full_disk.every_call(tmp_path, every=13)
    assert counts["calls"] > 40
    assert counts["sentences"] == counts["tried"] == -(-counts["calls"] // 13)


def test_a_campaign_that_finds_no_sentence_fails():
    with pytest.raises(AssertionError, match="call 3: the run ended as if nothing had happened"):
        full_disk.check_sentence(None, "call 3")
    with pytest.raises(AssertionError, match="call 3: .*No space left"):
        full_disk.check_sentence(OSError(28, "No space left on device"), "call 3")


def test_runs_under_clocks_that_jump(tmp_path):
    assert clocks.many_runs(tmp_path, 2)["runs"] == 2
