from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

import cliptune
from cliptune.data import DataSpec
from cliptune.exporting import making
from cliptune.protocols import run
from cliptune.runs import RunSpec
from tests.cli.conftest import write_photos
from tests.conftest import without_manifest


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """A folder with photos/, and a run of maple+dpc on them."""
    place = tmp_path_factory.mktemp("made")
    data = DataSpec(str(write_photos(place / "photos", per_class=4)))
    run(RunSpec("coop", data, options={"epochs": 1}), place / "coop")
    run(RunSpec("maple+dpc", data, options={"epochs": 1, "dpc_epochs": 1}), place / "run")
    return place


def test_a_run_is_exported_checked_and_described(made, tmp_path):
    done = cliptune.export(made / "coop", tmp_path / "out")
    assert done.path == tmp_path / "out" / "model.onnx"
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["classes.json", "model.onnx"]
    about = done.description
    assert about.checked["of"] == "photos"
    assert 0 < about.checked["pictures"] <= 16
    assert about.checked["largest_difference"] <= 1e-4
    assert json.loads((tmp_path / "out" / "classes.json").read_text()) == json.loads(about.text)
    model = cliptune.open_exported(tmp_path / "out")
    assert model.description == about
    adapter = cliptune.load(made / "coop")
    pictures = [cliptune.data.read_image(path) for path in sorted((made / "photos").rglob("*.png"))]
    expected = adapter.logits(pictures).softmax(-1).numpy()
    np.testing.assert_allclose(model.probabilities(pictures), expected, atol=1e-5)
    assert model.class_names == adapter.class_names
    assert str(tmp_path) not in (tmp_path / "out" / "model.onnx").read_bytes().decode("latin-1")
    assert "/cliptune/" not in (tmp_path / "out" / "model.onnx").read_bytes().decode("latin-1")
    onnx.checker.check_model(str(done.path), full_check=True)


def test_a_program_is_opened_by_torch_alone(made, tmp_path):
    done = cliptune.export(made / "coop", tmp_path / "a.pt2", to="torch-export", input="float32", dtype="float16")
    program = torch.export.load(str(done.path)).module()
    images = torch.rand(3, 3, 64, 64)
    expected = cliptune.load(made / "coop").logits(images).softmax(-1)
    torch.testing.assert_close(program(images), expected, rtol=0, atol=2e-2)
    with pytest.raises(ValueError, match=r"torch\.export\.load"):
        cliptune.open_exported(done.path)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_what_is_folded_needs_no_backbone(made, tmp_path, monkeypatch, dtype):
    done = cliptune.export(made / "run", tmp_path / "out", to="folded", dtype=dtype, weight=0.7)
    assert sorted(path.name for path in done.files) == ["classes.json", "folded.json", "folded.safetensors"]
    expected = cliptune.load(made / "run")
    expected.prompt.weight = 0.7
    monkeypatch.setattr("cliptune.clip.weights.load.load_clip", None)
    monkeypatch.setattr("cliptune.runs.loading.load_clip", None)
    model = cliptune.open_exported(tmp_path / "out")
    assert model.description.weight == 0.7
    pictures = [cliptune.data.read_image(path) for path in sorted((made / "photos").rglob("*.png"))]
    loose = {"float32": 1e-6, "float16": 2e-2}[dtype]
    wanted = expected.logits(pictures).softmax(-1).numpy()
    np.testing.assert_allclose(model.probabilities(pictures), wanted, atol=loose)


def test_other_classes_and_the_other_answer_of_two_prompts(made, tmp_path):
    trained = cliptune.export(made / "run", tmp_path / "a", to="torch-export")
    other = cliptune.export(made / "run", tmp_path / "b", classes=["lynx", "puma"], to="torch-export")
    assert (trained.description.weight, other.description.weight) == (0.2, 0.0)
    assert "ω = 0.2, as for trained classes" in trained.notes[0]
    assert "ω = 0, as for new classes" in other.notes[0]
    assert other.description.classes == ("lynx", "puma")


def test_an_adapter_is_exported_and_left_alone(made, tmp_path):
    adapter = cliptune.load(made / "run")
    done = cliptune.export(adapter, tmp_path / "a", to="torch-export", classes=["lynx", "puma"], weight=0.5)
    assert done.description.checked["of"] == "tinyworld/symbols"
    assert adapter.prompt.weight is None
    assert len(adapter.class_names) == 4
    with pytest.raises(ValueError, match="give the folder of a run"):
        cliptune.export(adapter, tmp_path / "b", to="folded")
    adapter.clip = adapter.clip.half()
    with pytest.raises(ValueError, match="must be in float32 on the CPU"):
        cliptune.export(adapter, tmp_path / "c")


def test_pictures_that_are_gone_are_replaced_and_said(made, tmp_path):
    shutil.copytree(made, tmp_path / "copy")
    result = tmp_path / "copy" / "coop" / "result.json"
    without_manifest(tmp_path / "copy" / "coop")
    result.write_text(result.read_text().replace(str(made / "photos"), str(tmp_path / "gone")))
    done = cliptune.export(tmp_path / "copy" / "coop", tmp_path / "out", to="folded")
    assert "drawings of tinyworld/symbols were used" in done.notes[0]


def test_an_export_that_answers_otherwise_is_not_written(made, tmp_path, monkeypatch):
    monkeypatch.setattr(making, "largest_difference", lambda *_: 0.5)
    with pytest.raises(ValueError, match=r"differs from the adapter by 0\.5 .* at most 0\.0001 .* Nothing was written"):
        cliptune.export(made / "coop", tmp_path / "out", to="folded")
    assert not list((tmp_path / "out").iterdir())
    monkeypatch.setattr(making, "largest_difference", lambda *_: float("nan"))
    with pytest.raises(ValueError, match="by nan"):
        cliptune.export(made / "coop", tmp_path / "out", to="folded")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"to": "coreml"}, "to must be one of onnx, torch-export, folded, got 'coreml'"),
        ({"dtype": "int8"}, "dtype must be one of"),
        ({"input": "jpeg"}, "input must be one of"),
        ({"out": "a.pt2"}, r"must be a name that ends in \.onnx, or a folder, got a\.pt2"),
        ({"out": "a.onnx", "to": "folded"}, "must be a folder"),
        ({"pictures": []}, "at least one picture"),
    ],
)
def test_what_cannot_be_is_a_sentence(made, options, sentence):
    with pytest.raises(ValueError, match=sentence):
        cliptune.export(made / "coop", **{"out": "elsewhere", **options})
    assert not Path("elsewhere").exists()


def test_an_earlier_export_is_kept_unless_asked(made, tmp_path):
    cliptune.export(made / "coop", tmp_path, to="folded")
    with pytest.raises(ValueError, match="overwrite"):
        cliptune.export(made / "coop", tmp_path, to="folded")
    cliptune.export(made / "coop", tmp_path, to="folded", overwrite=True)


def test_the_extra_is_named(made, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ImportError, match=r"pip install 'cliptune\[onnx\]'"):
        cliptune.export(made / "coop", tmp_path)


@pytest.mark.parametrize("damage", ["settings", "weights", "method", "tower"])
def test_a_damaged_folded_classifier_is_a_sentence(made, tmp_path, damage):
    from safetensors.torch import load_file, save_file

    cliptune.export(made / "coop", tmp_path, to="folded")
    settings, weights = tmp_path / "folded.json", tmp_path / "folded.safetensors"
    if damage == "settings":
        settings.write_text("{")
    elif damage == "method":
        settings.write_text(json.dumps({**json.loads(settings.read_text()), "method": 3}))
    elif damage == "weights":
        weights.write_bytes(weights.read_bytes()[:-100])
    else:
        tensors = load_file(weights)
        save_file({k: v for k, v in tensors.items() if k != "clip.image.proj"}, weights)
    with pytest.raises(ValueError, match=r"folded\.|image tower"):
        cliptune.open_exported(tmp_path)
