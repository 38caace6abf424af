"""Processes that are asked for one measurement at a time."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import turns
from turns import MEMORY, TEST, Other, peak_gib

ANSWERS = """
def measure(method, what):
    print("no answer")
    return {"memory": peak_gib(), "test": 2.5}.get(what, float(len(method)))
answer_lines(measure)
"""


def other(code: str) -> Other:
    return Other(
        [sys.executable, "-c", f"from turns import answer_lines, peak_gib\n{code}"], cwd=Path(turns.__file__).parent
    )


def test_each_line_has_its_answer_whatever_is_printed():
    with other(ANSWERS) as one:
        assert [one.answer("coop"), one.answer("maple", TEST), one.answer("maple")] == [4.0, 2.5, 5.0]
    assert one.process.returncode == 0


def test_memory_is_that_of_the_process_not_of_the_one_that_started_it():
    with other(ANSWERS) as one:
        assert 0 < one.answer("coop", MEMORY) < peak_gib() / 2  # which has torch in it


@pytest.mark.parametrize(
    ("code", "sentence"),
    [
        ("raise SystemExit('no such folder')", "ended before saying that it is ready"),
        ("print('ready'); raise SystemExit('no such method')", "ended before answering 'coop test'"),
        ("print('ready'); print('soon')", "must answer 'coop test' with a number, got 'soon'"),
    ],
)
def test_a_process_that_does_not_answer_is_told_in_a_sentence(code, sentence):
    def ask() -> None:
        with other(code) as one:
            one.answer("coop", TEST)

    _refused(ask, sentence)


def test_a_command_that_does_not_start_is_told_in_a_sentence():
    _refused(lambda: Other(["/no/such/program"]), "/no/such/program does not start")


def _refused(work: Callable[[], object], sentence: str) -> None:
    with pytest.raises(SystemExit, match=sentence):
        work()
