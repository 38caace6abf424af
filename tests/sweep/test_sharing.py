"""Runs that stand on others are made once, in an order that lets them, and give the same numbers."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from cliptune.data import DataSpec
from cliptune.protocols import by_spec
from cliptune.runs import RunSpec, read_learnables, read_result
from cliptune.sweep.bench import run_grid
from cliptune.sweep.cells import Cell
from cliptune.sweep.grid import Sweep
from cliptune.sweep.running import Outcome
from cliptune.sweep.sharing import Waiting
from tests.conftest import random_clip

SOURCE = DataSpec("x", "/data")
QUICK = {"epochs": 1, "batch_size": 4}
SECOND = {"dpc_epochs": 1, "dpc_batch_size": 4}


def settings(method: str, shots: int | None) -> tuple[dict[str, object], dict[str, object]]:
    return {**QUICK, **(SECOND if "dpc" in method else {})}, {"device": "cpu"}


def cells(out: Path, *methods: str, seeds=(1,), choose=settings, **more) -> list[Cell]:
    def settled(spec: RunSpec) -> RunSpec:
        options, training = choose(spec.method, spec.shots)
        return replace(spec, options=options, training=training)

    return Sweep("few_shot", methods, [SOURCE], shots=[2], seeds=seeds, settled=settled, **more).cells(out)


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch, dataset) -> list[str]:
    """Cells run on the small data set and the tiny CLIP; the methods that were trained, in order."""
    trained: list[str] = []
    real = by_spec.few_shot

    def few_shot(method, *given, **more):
        trained.append(method)
        return real(method, *given, **more)

    monkeypatch.setattr(by_spec, "_clip", lambda name, _loading: random_clip())
    monkeypatch.setattr("cliptune.runs.loading.open_backbone", lambda saved, who: random_clip())
    monkeypatch.setattr(by_spec, "_dataset", lambda source: dataset)
    monkeypatch.setattr(by_spec, "few_shot", few_shot)
    return trained


def sentences(outcomes: list[Outcome]) -> list[str | None]:
    return [outcome.error for outcome in outcomes]


def test_a_cell_goes_on_from_the_run_of_its_host_with_the_same_options_alone(tmp_path):
    dpc, coop, other = cells(tmp_path, "coop+dpc", "coop", "maple+dpc")
    assert dpc.continues == coop.folder
    assert dpc.after == (coop.folder,)
    assert (coop.continues, coop.after, other.continues) == (None, (), None)

    def longer(method, shots):
        options, training = settings(method, shots)
        return {**options, "epochs": 3 if method == "coop" else 2}, training

    assert cells(tmp_path, "coop+dpc", "coop", choose=longer)[0].continues is None


def test_a_host_that_was_run_before_is_gone_on_from_too(tmp_path, runs):
    assert sentences(run_grid(cells(tmp_path, "coop"))) == [None]
    (later,) = cells(tmp_path, "coop+dpc")
    assert later.continues is not None
    assert sentences(run_grid([later])) == [None]
    assert read_result(later.folder)["continues"]["run"] == os.path.relpath(later.continues, later.folder)


def test_shared_first_stages_and_teachers_give_what_unshared_ones_give(tmp_path, runs):
    teacher = lambda method, shots: (
        {**settings(method, shots)[0], **({"teacher": "coop"} if "promptkd" in method else {})},
        {"device": "cpu"},
    )
    asked = cells(tmp_path, "promptkd+dpc", "coop+dpc", "promptkd", "coop", choose=teacher)
    shared = run_grid(asked)
    assert sentences(shared) == [None] * 4
    assert [outcome.cell.spec.method for outcome in shared] == ["promptkd+dpc", "coop+dpc", "promptkd", "coop"]
    assert runs == ["coop", "coop+dpc", "promptkd", "promptkd+dpc"]
    for cell in asked:
        alone = replace(cell, folder=tmp_path / "alone" / cell.spec.method, continues=None, after=())
        assert sentences(run_grid([alone])) == [None]
        ours, theirs = read_learnables(cell.folder), read_learnables(alone.folder)
        assert ours.keys() == theirs.keys()
        assert all(bool((ours[name] == theirs[name]).all()) for name in ours), cell.spec.method
        one, other = read_result(cell.folder), read_result(alone.folder)
        assert one["evaluations"] == other["evaluations"]
        assert other["continues"] is None
        assert (one["continues"] is None) == ("dpc" not in cell.spec.method)
    assert asked[2].spec.options["teacher"] == str(asked[3].folder)
    again = run_grid(asked)
    assert all(outcome.before for outcome in again)
    # What its host took is not counted twice.
    assert again[1].seconds < read_result(asked[1].folder)["seconds"]


def test_a_host_that_cannot_be_gone_on_from_is_trained_where_it_is_needed(tmp_path, runs, monkeypatch):
    """Its run failed, or is that of other images."""
    one = cells(tmp_path / "failed", "coop+dpc", "coop")
    real = by_spec._protocol

    def failing(name):
        def protocol(method, *given, **more):
            if method == "coop":
                raise ValueError("no memory")
            return real(name)(method, *given, **more)

        return protocol

    with monkeypatch.context() as patch:
        patch.setattr(by_spec, "_protocol", failing)
        assert sentences(run_grid(one)) == [None, "no memory"]
    alone = read_result(one[0].folder)
    assert alone["continues"] is None
    assert any(note.startswith("bench: the host's stages were trained here. ") for note in alone["notes"])

    other = cells(tmp_path / "changed", "coop")
    assert sentences(run_grid(other)) == [None]
    data = by_spec._dataset(SOURCE)
    moved = replace(data, train=data.train.subset(range(1, len(data.train))))
    monkeypatch.setattr(by_spec, "_dataset", lambda source: moved)
    dpc, coop = sentences(run_grid(both := cells(tmp_path / "changed", "coop+dpc", "coop")))
    assert "holds another run" in str(coop)
    assert dpc is None
    assert read_result(both[0].folder)["continues"] is None


def test_what_fails_on_its_own_is_told_of_each(tmp_path, runs):
    too_long = lambda method, shots: ({**settings(method, shots)[0], "n_ctx": 99}, {"device": "cpu"})
    dpc, coop = sentences(run_grid(cells(tmp_path, "coop+dpc", "coop", choose=too_long)))
    assert "n_ctx" in str(coop)
    assert "n_ctx" in str(dpc)
    assert runs == ["coop", "coop+dpc"]


def test_a_teachers_folder_moves_with_the_grid_and_other_settings_of_it_take_another(tmp_path):
    def chosen(epochs):
        own = {"coop": {"epochs": epochs}, "promptkd": {"teacher": "coop"}}
        return lambda method, shots: (own[method], {})

    names = [[c.folder.relative_to(tmp_path / p) for c in cells(tmp_path / p, "coop", "promptkd", choose=chosen(n))]
             for p, n in (("a", 2), ("b", 2), ("b", 3))]  # fmt: skip
    assert names[0] == names[1]
    assert names[1][1] != names[2][1]


def test_a_teacher_that_is_nowhere_is_a_sentence(tmp_path):
    chosen = lambda method, shots: ({"teacher": "maple@ViT-L/14"} if method == "promptkd" else {}, {})
    with pytest.raises(ValueError, match=r"neither in this grid nor finished in .*Add maple .*--backbone ViT-L/14"):
        cells(tmp_path, "coop", "promptkd", choose=chosen)
    plain = lambda method, shots: ({"teacher": "zeroshot"}, {})
    assert cells(tmp_path, "promptkd", choose=plain)[0].spec.options == {"teacher": "zeroshot"}


def test_cells_wait_for_what_they_stand_on_and_for_nothing_else(tmp_path):
    names = {name: Cell(RunSpec("coop", SOURCE), Path(name)) for name in "abcd"}
    late = replace(names["a"], after=(Path("c"), Path("not in the grid")))
    waiting = Waiting([late, names["b"], names["c"]])
    assert [waiting.take(), waiting.take(), waiting.take()] == [names["b"], names["c"], None]
    waiting.ended(names["b"])
    waiting.give_back(names["b"])
    assert waiting.take() == names["b"]
    waiting.ended(names["c"])
    assert waiting.take() == late
    assert not waiting
