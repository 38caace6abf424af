"""A file of weights alone: what its tensors do not tell is given by every command that opens it, or asked for."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml

TRAIN = ("train", "--method", "zeroshot", "--data", "tinyworld/fishes", "--shots", 1)
BENCH = ("bench", "few_shot", "--methods", "zeroshot", "--data", "tinyworld/fishes", "--shots", 1, "--seeds", 1)


@pytest.fixture(autouse=True)
def _few_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    import cliptune.data.tinyworld.suites as suites

    whole = suites.load_suite
    monkeypatch.setattr(suites, "load_suite", lambda name, root=None: whole(name, train=2, val=1, test=1))


@pytest.fixture
def lone(backbone) -> str:
    """In a folder whose name says nothing, whatever it is called."""
    Path("laion").mkdir()
    shutil.copy(backbone, "laion/weights.safetensors")
    return "laion/weights.safetensors"


def activation(run: str) -> str:
    return yaml.safe_load((Path(run) / "config.yaml").read_text())["backbone"]["origin"]["activation"]


@pytest.mark.parametrize("command", [(*TRAIN, "--out", "out"), (*BENCH, "--out", "out")], ids=["train", "bench"])
def test_without_evidence_both_readings_are_said(cli, lone, command):
    answer = cli(*command, "--backbone", lone)
    assert answer.code != 0
    said = answer.out + answer.err
    assert "its tensors do not tell the activation" in said
    assert "--activation quick_gelu or gelu, or --arch" in said


@pytest.mark.parametrize("chosen", ["gelu", "quick_gelu"])
def test_a_run_keeps_the_activation_that_it_was_given(cli, lone, chosen):
    answer = cli(*TRAIN, "--out", "out", "--backbone", lone, "--activation", chosen)
    assert answer.code == 0, answer.err
    assert activation("out") == chosen
    before = json.loads(Path("out/result.json").read_text())["evaluations"]["test"]
    again = cli("eval", "out", "--json")
    assert again.code == 0, again.err
    assert json.loads(again.out)["accuracy"] == before["accuracy"]


def test_a_grid_keeps_readings_of_the_same_weights_apart(cli, lone):
    for chosen in ("gelu", "quick_gelu"):
        answer = cli(*BENCH, "--out", "out", "--backbone", lone, "--activation", chosen)
        assert answer.code == 0, answer.out + answer.err
    runs = sorted(str(path.parent) for path in Path("out").glob("**/result.json"))
    assert sorted(map(activation, runs)) == ["gelu", "quick_gelu"]


def test_an_architecture_of_other_sizes_is_refused(cli, lone):
    answer = cli(*TRAIN, "--out", "out", "--backbone", lone, "--arch", "ViT-B-16")
    assert answer.code == 2
    assert "ViT-B-16" in answer.err
    assert not Path("out/result.json").exists()
    unknown = cli(*TRAIN, "--out", "out", "--backbone", lone, "--arch", "ViT-B-61")
    assert unknown.code == 2
    assert "ViT-B-16" in unknown.err


def test_masks_take_the_reading(cli, lone, photos):
    words = ("masks", photos, "--out", "masks", "--backbone", lone, "--shots", 1)
    assert "its tensors do not tell the activation" in cli(*words).err
    answer = cli(*words, "--activation", "gelu")
    assert answer.code == 0, answer.err
    refused = cli("masks", photos, "--out", "masks", "--activation", "gelu")
    assert "there is no --backbone" in refused.err


def test_readings_without_weights_to_read_are_refused(cli):
    for words in ((*TRAIN, "--out", "out"), (*BENCH, "--out", "out")):
        answer = cli(*words, "--activation", "gelu")
        assert answer.code == 2
        assert "there is no --backbone" in answer.err
