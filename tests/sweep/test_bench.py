from __future__ import annotations

import multiprocessing
import os
import signal
import time
from dataclasses import replace
from pathlib import Path

import pytest

from cliptune.cli.commands.bench import _found
from cliptune.data import DataSpec
from cliptune.runs import RunSpec
from cliptune.sweep import bench, workers
from cliptune.sweep.bench import run_grid
from cliptune.sweep.cells import Cell
from cliptune.sweep.grid import Sweep
from cliptune.sweep.running import Outcome


def cell(method: str = "coop", folder: str = "a") -> Cell:
    return Cell(RunSpec(method, DataSpec("x", shots=16), "base2new"), Path(folder))


def test_a_grid_is_the_product_of_its_sides_each_cell_in_its_own_folder(tmp_path):
    cells = Sweep(
        "few_shot",
        methods=["coop", "maple+rlp", "rlp+maple"],
        data=[DataSpec("tinyworld/objects"), DataSpec("/a/photos"), DataSpec("/b/photos")],
        shots=[1, None],
        seeds=[1, 2],
    ).cells(tmp_path)
    assert len(cells) == len({cell.folder for cell in cells}) == 3 * 2 * 2 * 2  # maple+rlp in either order is one
    assert cells[0].folder == tmp_path / "few_shot/tinyworld-objects/1shots/mini/coop/seed1"
    assert {cell.spec.data.name for cell in cells[:8]} == {"tinyworld/objects"}


def test_what_changes_numbers_changes_the_folder_and_nothing_else_does(tmp_path):
    def folder(options, training):
        settled = lambda spec: replace(spec, options=options, training=training)
        (made,) = Sweep("base2new", ["coop"], [DataSpec("x")], seeds=[1], settled=settled).cells(tmp_path)
        return made.folder

    usual = folder({}, {})
    assert folder({}, {"workers": 2, "device": "cpu"}) == usual
    assert len({usual, folder({"n_ctx": 2}, {}), folder({"n_ctx": 4}, {}), folder({}, {"select": "val"})}) == 4


def test_the_time_left_is_that_of_cells_of_the_same_method():
    done = [Outcome(cell("coop"), 10.0), Outcome(cell("coop"), 20.0), Outcome(cell("vpt"), error="It failed.")]
    assert bench._seconds_left(done, [cell("coop"), cell("maple")], 1) == pytest.approx(30)
    assert bench._seconds_left(done, [cell("coop"), cell("maple")], 2) == pytest.approx(15)
    assert bench._seconds_left(done[2:], [cell("coop")], 1) is None
    found = [Outcome(cell("coop"), 30.0, before=True)]
    assert bench._seconds_left(found, [cell("coop")], 1) == pytest.approx(30)
    assert bench._seconds_left(found, [cell("maple")], 1) is None


def test_groups_and_families_stand_for_their_members():
    names = lambda text, root=None: [data.name for data in _found(text, root, "coop")]
    assert len(names("all11")) == 11
    assert "tinyworld/objects" in names("tinyworld")
    assert names("dtd, DTD,OxfordPets,pets,Tinyworld/Garden") == ["dtd", "oxford_pets", "tinyworld/garden"]


def _die_or_answer(asked: Cell) -> Outcome:
    """In a worker: cells called "dies" kill it, "dies once" only the first time."""
    if asked.spec.method == "dies" or (asked.spec.method == "dies once" and not asked.folder.exists()):
        asked.folder.mkdir(exist_ok=True)
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.05)
    return Outcome(asked, 1.0)


def _work_with_it(connection) -> None:
    workers.run_cell = _die_or_answer
    workers._work(connection)


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="needs a POSIX system")
def test_a_worker_that_dies_costs_at_most_its_own_cell(tmp_path, monkeypatch):
    asked = [cell("well", tmp_path / "a"), cell("dies", tmp_path / "b"), cell("dies once", tmp_path / "c"),
             cell("well", tmp_path / "d"), cell("well", tmp_path / "e")]  # fmt: skip

    context = multiprocessing.get_context("fork")  # starts at once; what is tested here is how deaths are answered

    def hired(_: object):
        ours, theirs = context.Pipe()
        process = context.Process(target=_work_with_it, args=(theirs,))
        process.start()
        theirs.close()
        return workers._Worker(process, ours)

    monkeypatch.setattr(workers, "_hired", hired)
    seen = []
    outcomes = run_grid(asked, workers=2, watch=lambda outcome, done, total, left: seen.append((done, total)))
    assert [outcome.cell for outcome in outcomes] == asked
    assert [outcome.error is None for outcome in outcomes] == [True, False, True, True, True]
    assert "exit code -9" in str(outcomes[1].error)
    assert seen == [(n, 5) for n in range(1, 6)]
