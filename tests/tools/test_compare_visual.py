"""What is asked of the tables of visual reprogramming, without training."""

import sys
from pathlib import Path

import pytest
from scipy import stats

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import compare_visual as bench

from tests.results.test_tables import run

QUESTIONS = {
    "methods": bench.methods_questions,
    "prm": bench.prm_questions,
    "shots": bench.shots_questions,
    "partition": bench.partition_questions,
    "patterns": bench.patterns_questions,
}


@pytest.mark.parametrize("name", QUESTIONS)
def test_every_question_is_about_two_rows_of_its_table(name):
    cells = set(bench.EXPERIMENTS[name].cells())
    for lines in QUESTIONS[name]().values():
        assert len({(one.where, one.claim) for one in lines}) == len(lines)
        for one in lines:
            assert {one.cell, one.against} <= cells
            assert one.cell != one.against
            assert (one.cell.suite, one.cell.shots) == (one.against.suite, one.against.shots)


def test_smoothing_is_not_asked_where_nothing_is_smoothed():
    asked = bench.shots_questions()["PRM, smoothed beats PRM"]
    assert {one.cell.shots for one in asked} == {1, 2, 4, 8}


def test_answers_pair_the_runs_of_each_seed(tmp_path, monkeypatch):
    """Runs without kept answers, so that only the test over seeds speaks; that they are missing is a remark."""
    values = {"vp": [20.0, 24.0, 21.0], "attrvr": [49.0, 50.0, 52.0], "ar": [19.0, 25.0, 20.0]}

    def collect(folder: Path):
        method, seed = folder.parts[-4], int(folder.name.removeprefix("seed"))
        return [run(method, "badges", seed, scores={"test": values[method][seed - 1]})]

    plain = bench.compare_pairs
    monkeypatch.setattr(bench, "collect", collect)
    monkeypatch.setattr(bench, "compare_pairs", lambda pairs, remarks: plain(pairs, []))
    pairs = (("attrvr", "vp"), ("ar", "vp"))
    found = bench.Found(tmp_path, [1, 2, 3])
    first, second = found.asked([bench.Question(f"{a} beats {b}", bench.Cell(a), bench.Cell(b)) for a, b in pairs])
    p = [stats.ttest_rel(values[a], values[b]).pvalue for a, b in pairs]
    assert first.found.adjusted["seeds"] == pytest.approx(2 * p[0])
    assert second.found.adjusted["seeds"] == pytest.approx(p[1])
    assert (first.verdict, second.verdict) == ("holds", "undecided")
