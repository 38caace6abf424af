"""The reliability campaigns at small sizes; their own sizes are run by `make nightly-scale`."""

import pytest

from tools.reliability import clocks, full_disk, large, shared_folder, slow_disk


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


def test_large_data_and_many_runs(tmp_path, capsys):
    for campaign, size in ((large.many_pictures, 3400), (large.many_classes, 30), (large.many_runs, 21)):
        (tmp_path / campaign.__name__).mkdir()
        campaign(tmp_path / campaign.__name__, size)
    assert "data check, every picture decoded" in capsys.readouterr().out


def test_long_runs_keep_their_files(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(large, "LEAK", 50.0)  # so few epochs only warm up
    large.many_epochs(tmp_path, 8)
    large.again_and_again(tmp_path, 8)
    told = capsys.readouterr().out
    assert "8 × cliptune.load" in told
    assert "8 × evaluate" in told


def test_a_leak_is_found_and_a_single_rise_is_none():
    steady, once = [100.0 + n for n in range(40)], [100.0] * 25 + [135.0] * 15
    with pytest.raises(AssertionError, match="loads: memory grows, over the last quarters by .10.0, 10.0, 10.0. MiB"):
        large.check_flat(steady, "loads")
    assert large.check_flat(once, "loads") == 0


def test_a_slow_file_system_changes_no_result(tmp_path):
    assert slow_disk.same_result(tmp_path, 30, 0.001)["late calls"] > 100


def test_processes_on_one_folder_and_one_cache(tmp_path):
    for campaign in (shared_folder.scored_at_once, shared_folder.eight_writers):
        (tmp_path / campaign.__name__).mkdir()
        assert campaign(tmp_path / campaign.__name__, 1)["rounds"] == 1
