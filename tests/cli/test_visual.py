"""Visual reprogramming from the command line: Tinyworld's causes, own descriptions, what the run remembers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

DATA = "tinyworld/textures"


@pytest.fixture(autouse=True)
def _few_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tinyworld with a handful of pictures per class."""
    import cliptune.data.tinyworld.suites as suites

    whole = suites.load_suite
    monkeypatch.setattr(suites, "load_suite", lambda name, root=None: whole(name, train=4, val=1, test=1))


def train(cli, backbone, method: str, out: str, *words: object):
    return cli(
        "train", "--method", method, "--data", DATA, "--backbone", backbone, "--shots", 1, "--epochs", 2, "--out", out,
        *words,
    )  # fmt: skip


def test_dvp_learns_a_pattern_for_each_cause_of_tinyworld(cli, backbone):
    answer = train(cli, backbone, "dvp_cse", "runs/a", "--set", "causes=texture,colour", "--set", "m=2")
    assert answer.code == 0, answer.err
    result = json.loads(Path("runs/a/result.json").read_text())
    assert result["flags"]["descriptions"] == "given"
    assert result["flags"]["selection"] == "last"
    config = json.loads(Path("runs/a/adapter_config.json").read_text())
    assert config["learnables"]["head.weight"] == [10, 4]
    assert config["learnables"]["prompt.program.value"][0] == 6
    assert list(config["classes"]["descriptions"]) == ["texture", "colour", "shape", "background"]
    assert cli("eval", "runs/a").code == 0
    refused = cli("eval", "runs/a", "--classes", "new")
    assert refused.code == 2
    assert "cannot speak of other classes" in refused.err


def test_descriptions_of_ones_own(cli, backbone, tmp_path):
    from cliptune.data.tinyworld.suites import classes_of

    names = list(classes_of("textures"))
    (tmp_path / "own_des.json").write_text(json.dumps({n: [f"A surface that is {n} all over."] for n in names}))
    words = ("--set", f"descriptions={tmp_path / 'own_des.json'}", "--set", "votes=1", "--set", "clusters=2")
    answer = train(cli, backbone, "dvp_cls", "runs/b", *words)
    assert answer.code == 0, answer.err
    (tmp_path / "own_des.json").unlink()  # the run keeps the sentences
    assert cli("eval", "runs/b").code == 0


def test_what_cannot_be_is_a_sentence(cli, backbone):
    answer = train(cli, backbone, "ar", "runs/c", "--set", "inner=64")
    assert answer.code == 2
    assert "Give a smaller inner size" in answer.err
    answer = train(cli, backbone, "attrvr", "runs/d", "--set", "descriptions=absent.json")
    assert answer.code == 2
    assert "there is no file or folder" in answer.err


def test_other_descriptions_make_another_run_and_another_row(cli, backbone):
    from cliptune.data.tinyworld.suites import load_suite

    names = load_suite("textures").class_names
    write = lambda words: Path("told.json").write_text(json.dumps({name: [f"{words} {name}"] * 3 for name in names}))
    given = ("--set", "descriptions=told.json", "--set", "m=2", "--set", "nearest=1")
    command = ("bench", "few_shot", "--methods", "attrvr", "--data", DATA, "--backbone", backbone, "--shots", 1)
    grid = lambda seed, out: cli(*command, "--set", "epochs=1", *given, "--seeds", seed, "--out", out)
    write("the surface looks like")
    first = grid(1, "runs")
    assert first.code == 0, first.err + first.out
    write("what else could it be but")
    again = grid(1, "runs")
    assert again.code == 1
    assert "differs in data.descriptions_sha256" in again.out
    assert grid(2, "runs").code == 0
    rows = [line for line in cli("table", "runs", "--format", "csv").out.splitlines() if "attrvr" in line]
    assert len(rows) == 2
    assert all("descriptions=" in line for line in rows)
