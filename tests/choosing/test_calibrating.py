"""Calibration of finished runs by cross-validation on their training images."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import cliptune
from cliptune.calibration import fit_temperature, true_scores
from cliptune.choosing import calibrate, held_out_answers, stratified_folds
from cliptune.choosing.calibrating import spread_of
from cliptune.data import DataSpec
from cliptune.data.metrics import expected_calibration_error
from cliptune.protocols import run
from cliptune.protocols.scoring import score_run
from cliptune.registry import build
from cliptune.runs import RunSpec, read_result
from cliptune.runs.calibrations import read_calibration
from cliptune.runs.manifest import verify
from cliptune.sharing import from_pretrained, save_pretrained
from cliptune.training import evaluate, fit
from tests.conftest import without_manifest
from tests.training.support import few, squares

SMALL = DataSpec("tinyworld/symbols", options={"train": 4, "val": 2, "test": 4}, shots=4)
GDA, COOP = RunSpec("gda", SMALL), RunSpec("coop", SMALL, options={"epochs": 1, "n_ctx": 2}, training={"views": 1})


def make(spec: RunSpec, folder: Path) -> Path:
    run(spec, folder, device="cpu", progress="silent")
    return folder


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("calibrated") / "run"
    make(GDA, folder)
    calibrate(folder, device="cpu")
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def folder(finished, tmp_path) -> Path:
    for name, content in finished.items():
        (tmp_path / "run" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "run" / name).write_bytes(content)
    return tmp_path / "run"


def test_answers_are_those_of_adapters_that_did_not_see_the_image(tiny_clip):
    data = squares()
    told = held_out_answers("gda", tiny_clip, data, folds=3)
    cut = stratified_folds(data.train.labels.tolist(), 1, 3)
    for held in cut.held:
        rest = [i for i in range(len(data.train)) if i not in held]
        part = data.with_picks(rest, range(len(data.val)), {})
        adapter = fit(build("gda", tiny_clip, data.class_names), part, progress="silent").adapter
        expected = evaluate(adapter, data.train.subset(held), keep_logits=True).logits
        torch.testing.assert_close(told.logits[list(held)], expected)
        known = evaluate(adapter, part.train, keep_logits=True).logits
        assert told.spread[list(held)].tolist() == pytest.approx([spread_of(known)] * len(held))
    assert told.labels.tolist() == data.train.labels.tolist()
    assert told.parts == 3


def test_a_temperature_is_fitted_in_units_of_each_adapters_spread(tiny_clip):
    told = held_out_answers("gda", tiny_clip, squares(), folds=2)
    first = torch.arange(len(told.labels)) % 2 == 0
    stretched = replace(
        told,
        logits=torch.where(first[:, None], 10 * told.logits, told.logits),
        spread=torch.where(first, 10 * told.spread, told.spread),
    )
    here, there = told.calibration(2.0), stretched.calibration(2.0)
    assert there.temperature == pytest.approx(here.temperature, rel=1e-5)
    assert there.scores == pytest.approx(here.scores, abs=1e-5)
    assert told.calibration(4.0).temperature == pytest.approx(2 * here.temperature)
    relative = told.logits.double() / told.spread[:, None]
    temperature = fit_temperature(relative, told.labels)
    assert here.temperature == 2 * temperature
    assert here.scores == true_scores(relative, told.labels, temperature)
    assert here.ece == expected_calibration_error(relative / temperature, told.labels)


def test_test_images_have_no_part_in_it(tiny_clip):
    data = squares()
    without = replace(data, test=data.test.subset([]))
    one, other = (held_out_answers("gda", tiny_clip, d, folds=2).logits for d in (data, without))
    assert torch.equal(one, other)


def test_images_that_cannot_be_held_out_are_said_or_refused(tiny_clip):
    told = held_out_answers("gda", tiny_clip, few((4, 1, 3)), folds=5)
    assert len(told.labels) == 7
    assert told.notes == (
        "Classes with one training image, which is always trained on, so that the calibration knows nothing of answers "
        "to images of them: 'green'.",
    )
    with pytest.raises(ValueError, match="no class of squares has two training images"):
        held_out_answers("gda", tiny_clip, few((1, 1, 1)))
    with pytest.raises(ValueError, match="are there more than once"):
        held_out_answers("gda", tiny_clip, few((2, 2, 2), times=2))


def test_a_run_keeps_its_calibration_and_its_adapter(folder, finished):
    assert verify(folder).state == "verified"
    noted = read_result(folder)["calibration"]
    known = read_calibration(folder)
    assert noted["images"] == len(known.scores) == 32
    assert noted["parts"] == 4  # as many as a class has images
    assert noted["temperature"] == known.temperature
    adapter = cliptune.load(folder)
    assert adapter.calibration == known
    logits = torch.randn(2, 8)
    torch.testing.assert_close(adapter.probabilities(logits), (logits / known.temperature).softmax(-1))
    bare = fit(build("gda", adapter.clip, adapter.class_names), SMALL.open(), progress="silent").adapter
    assert all(torch.equal(value, adapter.learnables()[name]) for name, value in bare.learnables().items())


def test_sets_hold_what_the_definition_says(folder):
    adapter, data = cliptune.load(folder), SMALL.open()
    images = [data.test.image(i) for i in range(6)]
    sets = adapter.predict_sets(images, 0.8)
    probabilities = (adapter.logits(images) / adapter.calibration.temperature).softmax(-1)
    limit = adapter.calibration.threshold(0.8)
    for row, inside in zip(probabilities.double(), sets.inside, strict=True):
        assert inside.tolist() == [bool(1 - p <= limit) or p == row.max() for p in row]
    scored = score_run(folder, adapter, coverage=0.8).calibrated
    labels = data.test.labels
    whole = adapter.predict_sets([data.test.image(i) for i in range(len(labels))], 0.8)
    assert scored["sets"]["held"] == int(whole.inside[torch.arange(len(labels)), labels].sum())
    assert scored["sets"]["n"] == len(labels)
    assert scored["sets"]["mean_size"] == pytest.approx(whole.sizes.double().mean().item())


def test_of_other_classes_and_sentences_nothing_is_promised(folder):
    adapter = cliptune.load(folder)
    picture = [SMALL.open().test.image(0)]
    same = adapter.for_texts(tuple(reversed(adapter.class_names)))
    assert same.temperature == adapter.temperature != 1
    assert same.predict_sets(picture).names == adapter.predict_sets(picture).names
    other = adapter.for_texts(["lynx", "puma"])
    assert other.temperature == 1
    with pytest.raises(ValueError, match="is asked about others, of which it has seen none"):
        other.predict_sets(picture)
    worded = adapter.for_texts(adapter.classes.with_template("a blurry {}."))
    with pytest.raises(ValueError, match="was calibrated with the sentence"):
        worded.predict_sets(picture)
    adapter.calibration = None
    with pytest.raises(ValueError, match="has not been calibrated"):
        adapter.predict_sets(picture)


def test_a_calibration_of_another_adapter_or_changed_is_refused_and_made_anew(folder):
    content = (folder / "calibration.json").read_text()
    (folder / "calibration.json").write_text(content.replace('"parts": 4', '"parts": 5'))
    with pytest.raises(ValueError, match="is not the file that result.json was written with"):
        cliptune.load(folder)
    assert "calibration.json" in verify(folder).problems
    calibrate(folder, device="cpu", folds=2)
    assert read_calibration(folder).parts == 2
    assert verify(folder).state == "verified"
    (folder / "calibration.json").unlink()
    with pytest.raises(ValueError, match="says that there is a calibration, but there is none"):
        cliptune.load(folder)


@pytest.mark.parametrize(
    ("line", "value", "sentence"),
    [
        ("format", 9, "it is of format 9"),
        ("adapter_sha256", "0", "it belongs to another adapter"),
        ("temperature", -1.0, "its temperature is no number above 0"),
        ("scores", [0.5, 0.1], "its scores are not ascending"),
        ("scores", [], "its scores are not ascending"),
        ("parts", None, "int"),
    ],
)
def test_a_shared_calibration_that_was_edited_is_a_sentence(folder, tmp_path, line, value, sentence):
    shared = save_pretrained(folder, tmp_path / "shared")
    assert from_pretrained(shared).calibration == read_calibration(folder)
    said = json.loads((shared / "calibration.json").read_text())
    (shared / "calibration.json").write_text(json.dumps({**said, line: value}))
    with pytest.raises(ValueError, match=sentence):
        from_pretrained(shared)


def test_a_run_that_was_trained_anew_is_not_calibrated(folder):
    run(GDA, folder, device="cpu", progress="silent", overwrite=True)
    assert cliptune.load(folder).calibration is None
    assert not (folder / "calibration.json").exists()


def test_learners_are_trained_anew_for_every_part(tmp_path):
    lines: list[str] = []
    known = calibrate(make(COOP, tmp_path / "run"), device="cpu", folds=2, say=lines.append)
    assert lines == [f"Part {i} of 2: 16 images are trained on" for i in (1, 2)]
    data = SMALL.open()
    clip = cliptune.load_clip("mini")
    told = held_out_answers("coop", clip, data, folds=2, options=COOP.options, views=1, device="cpu")
    assert known.scores == pytest.approx(told.calibration(1.0).scores)


def test_runs_that_cannot_be_repeated_are_a_sentence(folder, tmp_path):
    with pytest.raises(FileNotFoundError, match="holds no finished run"):
        calibrate(tmp_path / "nothing")
    result = json.loads((without_manifest(folder) / "result.json").read_text())
    (folder / "result.json").write_text(json.dumps({**result, "source": None}))
    with pytest.raises(ValueError, match="its training cannot be repeated on parts"):
        calibrate(folder)
    (folder / "result.json").write_text(json.dumps(result))
    split = json.loads((folder / "split.json").read_text())
    split["train"] = split["train"][1:]
    (folder / "split.json").write_text(json.dumps(split))
    with pytest.raises(ValueError, match="are not those that the run in"):
        calibrate(folder)
    oracle = make(replace(GDA, method="coop", options={"epochs": 1}, training={"select": "oracle"}), tmp_path / "o")
    with pytest.raises(ValueError, match="chose its epoch on test images"):
        calibrate(oracle)
