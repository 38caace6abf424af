"""Backbones that want pictures prepared otherwise: whatever answers for a run prepares them as the run does."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from pathlib import Path

import httpx
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

import cliptune
from cliptune.choosing import Candidate, Candidates, choose
from cliptune.data import DataSpec, read_image
from cliptune.data.transforms import test_transform as shown_at_test
from cliptune.explain import OpenedRun
from cliptune.exporting.opening import open_exported
from cliptune.preprocessing import Preprocessing
from cliptune.protocols import run
from cliptune.runs import RunSpec
from cliptune.serving import application
from cliptune.serving.served import open_served
from tests.cli.conftest import COLOURS, picture
from tests.clip.weights.checkpoints import openai_tensors
from tests.clip.weights.test_other_towers import saved
from tests.conftest import random_clip

SHAPES = ((90, 40), (40, 75), (33, 64), (64, 64))
HALF = {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}
DECLARED = {
    "squash": {**HALF, "resize_mode": "squash", "interpolation": "bilinear"},
    "longest": {**HALF, "resize_mode": "longest", "interpolation": "bicubic", "fill_color": 128},
}


def weights(folder: Path, declared: dict) -> Path:
    """A folder of open_clip with weights of CLIP's own kind and this `preprocess_cfg`."""
    folder.mkdir()
    save_file(openai_tensors(random_clip()), folder / "open_clip_model.safetensors")
    model = {"vision_cfg": {"head_width": 8}, "text_cfg": {"heads": 3}, "quick_gelu": True}
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": model, "preprocess_cfg": declared}))
    return folder


def long_and_wide(folder: Path) -> Path:
    """Pictures of four classes, none of them square but one."""
    for name, colour in COLOURS.items():
        (folder / name).mkdir(parents=True)
        for i, size in enumerate(SHAPES):
            picture(colour, size, seed=i).save(folder / name / f"{i}.png")
    return folder


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    return long_and_wide(tmp_path_factory.mktemp("long") / "photos")


@pytest.fixture(scope="module", params=sorted(DECLARED))
def made(request, photos, tmp_path_factory) -> Path:
    """A run on a backbone that declares its own preprocessing."""
    place = tmp_path_factory.mktemp(request.param)
    backbone = str(weights(place / "w", DECLARED[request.param]))
    run(RunSpec("vp", DataSpec(str(photos)), options={"epochs": 1}, backbone=backbone), place / "run")
    return place / "run"


@pytest.fixture(scope="module")
def expected(made, photos) -> np.ndarray:
    adapter = cliptune.load(made)
    assert adapter.clip.mean == (0.5, 0.5, 0.5)
    found: np.ndarray = adapter.logits(images(photos)).softmax(-1).numpy()
    usual = dataclasses.replace(adapter.clip.preprocessing, resize="shortest")
    adapter.clip.preprocessing = usual
    assert np.abs(adapter.logits(images(photos)).softmax(-1).numpy() - found).max() > 1e-3  # it matters
    return found


def images(photos: Path) -> list[Image.Image]:
    return [read_image(path) for path in sorted(photos.rglob("*.png"))]


@pytest.mark.parametrize("to", ["onnx", "torch-export", "folded"])
def test_exports_answer_as_the_run(made, photos, expected, tmp_path, to):
    done = cliptune.export(made, tmp_path / "out", to=to)
    assert done.description.checked["largest_difference"] <= 1e-4
    assert done.description.mean == (0.5, 0.5, 0.5)
    if to == "torch-export":  # opened by torch alone, on pixels prepared as `classes.json` says
        from cliptune.exported import pixels

        about = done.description
        prepared = np.stack([pixels(image, about.resolution, about.pictures) for image in images(photos)])
        found = torch.export.load(str(done.path)).module()(torch.from_numpy(prepared)).numpy()
    else:
        found = open_exported(tmp_path / "out").probabilities(images(photos))
    np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize("of", ["run", "onnx", "folded"])
def test_served_answers_are_those_of_the_run(made, photos, expected, tmp_path, of):
    if of != "run":
        cliptune.export(made, tmp_path / "out", to=of)
    served = open_served(made if of == "run" else tmp_path / "out")
    app = application({"model": served})
    files = [("image", (path.name, path.read_bytes())) for path in sorted(photos.rglob("*.png"))]

    async def asked() -> dict:
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client,
        ):
            return (await client.post("/predict", files=files)).json()

    for result, row in zip(asyncio.run(asked())["results"], expected, strict=True):
        found = {one["class"]: one["probability"] for one in result["predictions"]}
        assert [found[name] for name in served.class_names] == pytest.approx(row.tolist(), abs=1e-4)


def test_what_is_explained_are_the_answers_of_the_run(made, photos):
    opened = OpenedRun.open(made)
    shown = [read_image(str(photos / name)) for name in opened.split().ids]
    wanted = opened.adapter.logits(shown).softmax(-1)
    torch.testing.assert_close(opened.answers().logits.softmax(-1), wanted, atol=1e-4, rtol=0)
    torch.testing.assert_close(opened.batch_of([0]).images, next(opened.batches()).images[:1])
    assert opened.adapter.clip.preprocessing != Preprocessing()


@pytest.mark.parametrize("declared", sorted(DECLARED))
def test_choosing_shows_what_the_backbone_wants(photos, tmp_path, declared, monkeypatch):
    clip = cliptune.load_clip(str(weights(tmp_path / "w", DECLARED[declared])))
    data, zero, seen = DataSpec(str(photos)).open(), Candidate("zeroshot"), []
    passed = clip.encode_image
    monkeypatch.setattr(clip, "encode_image", lambda views, *ports: seen.extend(views[:, 0]) or passed(views, *ports))
    choose(clip, data, Candidates((zero,), (zero,), zero), folds=2)
    side = clip.config.resolution
    transform = shown_at_test(side, preprocessing=clip.preprocessing)
    wanted = torch.stack([transform(data.train.image(i)) for i in range(len(data.train))])
    found = torch.stack(seen)
    mean, std = (torch.tensor(part).view(3, 1, 1) for part in (clip.mean, clip.std))
    for image in (wanted - mean) / std:
        assert (found - image).abs().amax((1, 2, 3)).min() < 1e-5


def test_the_scikit_learn_classifier_follows_too(made, photos, tmp_path):
    from cliptune.sklearn import ClipClassifier

    backbone = str(made.parent / "w")
    paths = sorted(photos.rglob("*.png"))
    labels = [path.parent.name for path in paths]
    classifier = ClipClassifier("zeroshot", backbone=backbone).fit(images(photos), labels)
    adapter = cliptune.build("zeroshot", cliptune.load_clip(backbone), sorted(COLOURS)).adapter.eval()
    wanted = adapter.logits(images(photos)).softmax(-1).numpy()
    np.testing.assert_allclose(classifier.predict_proba(images(photos)), wanted, atol=1e-5)
    assert adapter.clip.preprocessing != Preprocessing()
    classifier.save(tmp_path / "saved")
    again = ClipClassifier.load(tmp_path / "saved")
    np.testing.assert_allclose(again.predict_proba(images(photos)), wanted, atol=1e-5)


@pytest.mark.parametrize("kind", ["siglip", "eva", "convnext"])
def test_towers_of_other_libraries(photos, tmp_path, kind):
    folder = saved(tmp_path / "w", kind)
    run(RunSpec("coop", DataSpec(str(photos)), options={"epochs": 1}, backbone=str(folder)), tmp_path / "run")
    adapter = cliptune.load(tmp_path / "run")
    wanted = adapter.logits(images(photos)).softmax(-1).numpy()
    cliptune.export(tmp_path / "run", tmp_path / "onnx")
    np.testing.assert_allclose(open_exported(tmp_path / "onnx").probabilities(images(photos)), wanted, atol=1e-4)
    done = cliptune.export(tmp_path / "run", tmp_path / "program", to="torch-export")
    assert done.description.checked["largest_difference"] <= 1e-4
    with pytest.raises(ValueError, match=r"image tower of w is another library's, \w+ of timm. Use --to onnx"):
        cliptune.export(tmp_path / "run", tmp_path / "folded", to="folded")
    assert not (tmp_path / "folded").exists()
