"""One line per method, one column per number of shots."""

from __future__ import annotations

import statistics

import pytest

from cliptune.results.across import across_shots
from cliptune.results.tables import rows
from tests.results.test_tables import run

SHOTS = (1, 4, None)


def grid(**more):
    return [
        run(m, seed=seed, shots=n, trained="all", scores={"test": 10.0 * k + seed}, **more)
        for m in ("coop", "gda")
        for k, n in enumerate(SHOTS)
        for seed in (1, 2)
    ]


def test_a_column_for_each_number_of_shots():
    headers, lines = across_shots(rows(grid()), ["test"])
    assert headers == ["method", "data", "seeds", "1 shot", "4 shots", "all images"]
    mean, sd = statistics.mean([11, 12]), statistics.pstdev([11, 12])
    assert lines[0] == ["coop", "a", "1,2", "1.50 ± 0.50", f"{mean:.2f} ± {sd:.2f}", "21.50 ± 0.50"]
    assert [line[0] for line in lines] == ["coop", "gda"]


def test_evaluations_are_named_where_there_are_several_and_gaps_shown():
    halves = [run(shots=n, scores={"base": 80.0, "new": 60.0}) for n in (1, 2)] + [run("gda", shots=2)]
    headers, lines = across_shots(rows(halves), ["base", "new"])
    assert headers[3:] == ["base, 1 shot", "base, 2 shots", "new, 1 shot", "new, 2 shots"]
    assert lines[1][3:] == ["–", "80.00", "–", "60.00"]


def test_notes_say_at_which_shots_and_leave_out_counts_that_grow_with_them():
    def noted(n, *words):
        return run(shots=n, trained="all", scores={"test": 50.0}, caveats=words)

    made = rows([noted(1, "C chosen on 4 validation images"), noted(2, "C chosen on 8 validation images", "odd")])
    headers, (line,) = across_shots(made, ["test"])
    assert headers[-1] == "note"
    assert line[-1] == "C chosen on validation images; odd (2 shots)"


def test_rows_that_differ_in_more_keep_lines_of_their_own():
    made = rows([*grid(), *grid(options={"n_ctx": "16"})])
    found = [line[0] for line in across_shots(made, ["test"])[1]]
    assert sorted(found) == ["coop (n_ctx=16)", "coop (n_ctx=4)", "gda (n_ctx=16)", "gda (n_ctx=4)"]


def test_one_number_of_shots_is_a_sentence():
    with pytest.raises(ValueError, match="all runs have 16 shots"):
        across_shots(rows([run(), run("gda")]), ["base"])
    with pytest.raises(ValueError, match="on 10% herding, not on a number"):
        across_shots(rows([run(part={"fraction": 0.1, "selection": "herding"})]), ["base"])
