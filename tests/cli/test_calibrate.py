"""Calibration from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import cliptune

GDA = ("--method", "gda")


@pytest.fixture
def run(cli, photos: Path, backbone: Path) -> Path:
    answer = cli("fit", photos, *GDA, "--out", "out", "--backbone", backbone, "--calibrate")
    assert answer.code == 0, answer.err
    assert "Calibrated on 16 training images, each held out once in 4 parts" in answer.out
    assert "cliptune predict out IMAGE --sets 0.9" in answer.out
    assert "Part 4 of 4: 12 images are trained on" in answer.err
    return Path("out")


def test_sets_are_printed_written_and_measured(cli, photos, run):
    adapter = cliptune.load(run)
    picture = photos / "snow" / "00.png"
    answer = cli("predict", run, picture, "--sets", 0.9, "--json")
    assert answer.code == 0, answer.err
    (found,) = json.loads(answer.out)
    from cliptune.data import read_image

    sets = adapter.predict_sets([read_image(picture, exif=True)], 0.9)
    assert found["set"] == list(sets.names[0])
    assert found["predictions"][0]["probability"] == pytest.approx(float(sets.probabilities.max()), abs=1e-6)
    told = cli("predict", run, picture, "--sets", 0.9)
    assert [line.split("%  ")[1] for line in told.out.splitlines()] == found["set"]
    written = cli("predict", run, photos, "--sets", 0.9, "--format", "jsonl", "--out", "p.jsonl")
    assert written.code == 0, written.err
    assert all(json.loads(line)["set"] for line in Path("p.jsonl").read_text().splitlines())
    scored = json.loads(cli("eval", run, "--sets", 0.9, "--json").out)
    inside = scored["calibrated"]["sets"]
    assert inside["n"] == scored["n"] == 8
    assert inside["low"] < inside["coverage"] == 100 * inside["held"] / 8 <= inside["high"]
    assert "Sets of 0.9 hold the right class of" in cli("eval", run, "--sets", 0.9).out
    assert "With the temperature" in cli("eval", run).out


def test_a_finished_run_is_calibrated_anew_and_told_as_json(cli, run):
    numbers = json.loads(cli("calibrate", run, "--folds", 2, "--json").out)
    assert numbers["parts"] == 2
    assert numbers["images"] == 16
    assert numbers == json.loads((run / "result.json").read_text())["calibration"]
    assert "verified" in cli("check", run).out


def test_what_is_not_promised_is_a_sentence(cli, photos, run, backbone):
    picture = photos / "snow" / "00.png"
    too_much = cli("predict", run, picture, "--sets", 0.99)
    assert too_much.code == 2
    assert "16 held-out images carry sets of at most 0.941, got 0.99, which takes 99" in too_much.err
    other = cli("predict", run, picture, "--sets", 0.9, "--classes", "lynx,puma")
    assert other.code == 2
    assert "--sets: The adapter was calibrated on images of the classes that it was trained on" in other.err
    unsoftened = cli("predict", run, picture, "--classes", "lynx,puma")
    assert unsoftened.code == 0
    assert unsoftened.err.startswith("Probabilities are without the temperature. The adapter was calibrated")
    table = cli("predict", run, picture, "--sets", 0.9, "--format", "csv", "--out", "p.csv")
    assert table.code == 2
    assert "a file of csv holds one class for a picture and no set" in table.err
    assert "leave out --scores sigmoid" in cli("predict", run, picture, "--sets", 0.9, "--scores", "sigmoid").err
    plain = cli("fit", photos, *GDA, "--out", "plain", "--backbone", backbone)
    assert plain.code == 0
    assert "Calibrate its run: cliptune calibrate RUN" in cli("predict", "plain", picture, "--sets", 0.9).err
    assert "Calibrate its run: cliptune calibrate RUN" in cli("eval", "plain", "--sets", 0.9).err


def test_exports_have_the_temperature_and_say_that_they_have_no_sets(cli, photos, run):
    picture = photos / "snow" / "00.png"
    adapter = cliptune.load(run)
    for target in ("folded", "onnx"):
        exported = cli("export", run, "--to", target, "--out", target)
        assert exported.code == 0, exported.err
        model = cliptune.open_exported(target)
        assert model.description.temperature == adapter.temperature
        from cliptune.data import read_image

        shown = [read_image(picture, exif=True)]
        expected = adapter.probabilities(adapter.logits(shown)).numpy()
        np.testing.assert_allclose(model.probabilities(shown), expected, atol=1e-5)
    refused = cli("predict", "folded", picture, "--sets", 0.9)
    assert refused.code == 2
    assert "--sets cannot change them" in refused.err
