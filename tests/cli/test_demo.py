from __future__ import annotations

import json
from pathlib import Path

import pytest

from cliptune.cli.commands import demo
from tests.conftest import random_clip


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A random CLIP in the place of mini, few pictures, one picture size."""
    import cliptune.clip.weights.load
    import cliptune.data.tinyworld.suites as suites

    clip = random_clip()
    clip.origin = {"source": "mini", "activation": "quick_gelu"}
    whole = suites.load_suite
    monkeypatch.setattr(cliptune.clip.weights.load, "load_clip", lambda name, **_: clip)
    monkeypatch.setattr("cliptune.runs.loading.load_clip", lambda name, **_: clip)
    monkeypatch.setattr(suites, "load_suite", lambda name, root=None: whole(name, train=4, val=1, test=2))
    monkeypatch.setattr(demo, "SHOTS", 2)


def test_the_demo_prints_a_labelled_table_and_commands_that_work(cli):
    answer = cli("demo", "--quick")
    assert answer.code == 0, answer.err
    assert "a laboratory, not a benchmark" in answer.out
    for method in demo.METHODS:
        assert f" {method} " in answer.out
    result = json.loads(Path("runs/demo/quick/objects/maple/result.json").read_text())
    assert f"{result['base']:.2f}" in answer.out
    assert f"{result['harmonic_mean']:.2f}" in answer.out
    commands = [line.split("#")[0].split()[1:] for line in answer.out.splitlines() if line.startswith("  cliptune")]
    assert [words[0] for words in commands] == ["predict", "eval", "table", "methods", "fit"]
    for words in commands[:-1]:
        assert cli(*words).code == 0, words


def test_a_second_demo_goes_on_with_what_is_there(cli):
    cli("demo", "--quick", "--out", "here")
    first = cli("demo", "--quick", "--out", "here")
    written = {path: path.read_bytes() for path in Path("here").rglob("adapter_model.safetensors")}
    second = cli("demo", "--quick", "--out", "here")
    assert first.out.splitlines()[1:-10] == second.out.splitlines()[1:-10]
    assert all(path.read_bytes() == content for path, content in written.items())


def test_bad_input_to_demo_is_one_sentence(cli):
    Path("taken").write_text("a file")
    assert "could not write" in cli("demo", "--quick", "--out", "taken").err
    assert "Invalid value" in cli("demo", "--seed", "one").err
