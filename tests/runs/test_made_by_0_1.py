"""Two runs that version 0.1 made on this laboratory's drawings still open, score, tabulate and go on.

`cliptune bench base2new --methods coop+dpc --data tinyworld/symbols --shots 2 --seeds 1 --backbone mini --set epochs=1
--set dpc_epochs=1`, and `cliptune bench few_shot --methods linear_probe …` without options.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import cliptune
from cliptune.cli.commands.bench import EngineOptions, GridOptions, bench
from cliptune.data import DataSpec
from cliptune.protocols.scoring import score_run
from cliptune.results import collect, rows
from cliptune.runs import RunSpec, read_learnables, read_result
from cliptune.runs.folder import read_images

MADE = Path(__file__).with_name("made_by_0_1")
SYMBOLS = "tinyworld-symbols/2shots/mini"
COOP = f"base2new/{SYMBOLS}/coop+dpc-42613926/seed1"
PROBE = f"few_shot/{SYMBOLS}/linear_probe-e3bec123/seed1"


@pytest.fixture
def made(tmp_path) -> Path:
    return shutil.copytree(MADE, tmp_path / "runs")


def test_they_score_as_they_did(made):
    for folder, classes, name in ((COOP, "base", "base"), (COOP, "new", "new"), (PROBE, None, "test")):
        before = read_result(made / folder)["evaluations"][name]["accuracy"]
        scored = score_run(made / folder, cliptune.load(made / folder), classes=classes)
        assert scored.own_images
        assert scored.name == name
        assert scored.evaluation.accuracy == pytest.approx(before, abs=0.51)  # one picture of 200


def test_they_are_rows_of_a_table(made):
    table = {row.method: row for row in rows(collect(made))}
    assert table["coop+dpc"].scores == {"base": [26.0], "new": [26.0]}
    assert table["linear_probe"].scores == {"test": [48.5]}


def test_they_say_what_they_are(made):
    spec = RunSpec.read(made / COOP)
    assert (spec.method, spec.protocol, spec.backbone) == ("coop+dpc", "base2new", "mini")
    assert spec.data == DataSpec("tinyworld/symbols", shots=2, seed=1, classes="base")
    assert spec.options["dpc_epochs"] == 1


def draws_as_then() -> bool:
    """Whether this torch draws the pictures as the one that 0.1 ran on: its sines decide their last bits."""
    train = cliptune.load_data("tinyworld/symbols", shots=2, seed=1, classes="base").train
    drawn = {name: train.digest(i) for i, name in enumerate(train.ids)}
    return all(drawn[name] == digest for name, _, digest in read_images(MADE / COOP)["train"])


same_drawings = pytest.mark.skipif(not draws_as_then(), reason="this torch draws other last bits than 0.1's")


def again(made: Path) -> int:
    grid = GridOptions(
        methods="coop+dpc",
        data="tinyworld/symbols",
        shots="2",
        seeds="1",
        backbone="mini",
        set=["epochs=1", "dpc_epochs=1"],
    )
    return bench("base2new", grid=grid, out=str(made), where=EngineOptions(device="cpu"))


@same_drawings
def test_their_command_finds_them_finished(made, capsys):
    before = (made / COOP / "result.json").read_bytes()
    assert again(made) == 0
    assert "finished before" in capsys.readouterr().err
    assert (made / COOP / "result.json").read_bytes() == before


@same_drawings
def test_one_that_was_stopped_goes_on(made):
    """From its saved state, at the end of training: what was learned is what 0.1 learned."""
    learned = read_learnables(made / COOP)
    for name in ("result.json", "adapter_config.json", "adapter_model.safetensors"):
        (made / COOP / name).unlink()
    assert again(made) == 0
    now = read_learnables(made / COOP)
    assert now.keys() == learned.keys()
    assert all(bool((now[name] == learned[name]).all()) for name in learned)
    assert read_result(made / COOP)["evaluations"]["base"]["accuracy"] == pytest.approx(26.0, abs=0.51)
