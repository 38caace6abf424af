"""Runs that earlier versions wrote are read, scored and recognised.

tests/golden/run_0_1 was written by 0.1.0:
cliptune train --method coop --data tinyworld/symbols --shots 1 --classes base --epochs 1 --backbone mini
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

import cliptune

WRITTEN = Path(__file__).parents[1] / "golden/run_0_1"
COMMAND = "train --method coop --data tinyworld/symbols --shots 1 --classes base --epochs 1 --backbone mini"


@pytest.fixture
def run(tmp_path):
    return Path(shutil.copytree(WRITTEN, tmp_path / "run"))


def test_the_run_is_of_an_earlier_version():
    for name in ("env.json", "adapter_config.json"):
        written = json.loads((WRITTEN / name).read_text())["cliptune"]
        assert written == "0.1.0"
        assert written != cliptune.__version__


def test_its_numbers_come_out_again(cli, run):
    found = json.loads(cli("eval", run, "--json").out)
    recorded = json.loads((WRITTEN / "result.json").read_text())["evaluations"]["base"]
    assert found["accuracy"] == pytest.approx(recorded["accuracy"], abs=1.0)  # another machine may turn one image
    assert cli("eval", run, "--classes", "new").code == 0
    table = cli("table", run.parent)
    assert "coop" in table.out
    assert table.err == ""


def test_the_same_command_finds_it_finished(cli, run):
    before = (run / "adapter_model.safetensors").read_bytes()
    answer = cli(*COMMAND.split(), "--out", run)
    assert answer.code == 0, answer.err
    assert (run / "adapter_model.safetensors").read_bytes() == before
    assert json.loads((run / "env.json").read_text())["cliptune"] == "0.1.0"
    assert (run / "log.txt").read_text() == (WRITTEN / "log.txt").read_text()


def test_it_goes_on_where_it_was_stopped(cli, run):
    (run / "result.json").unlink()
    answer = cli(*COMMAND.split(), "--out", run)
    assert answer.code == 0, answer.err
    assert "started with cliptune" not in answer.err  # another version is no reason for other numbers
    assert (run / "adapter_model.safetensors").read_bytes() == (WRITTEN / "adapter_model.safetensors").read_bytes()
