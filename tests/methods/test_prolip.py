"""ProLIP against its release, and what it does at the port."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from cliptune import interop
from cliptune.batch import Batch
from cliptune.registry import build
from cliptune.registry.checks import observed
from cliptune.runs import load_adapter
from cliptune.training import fit
from cliptune.training.optim import build_optimiser, set_rate
from cliptune.training.schedules import learning_rate
from tests.clip.foreign.tiny import tiny_pair
from tests.conftest import CLASS_NAMES, random_clip
from tests.golden.reference import golden
from tests.training.support import NAMES, few


@pytest.fixture
def released(monkeypatch):
    """The method on a CLIP whose towers give the stored rows and texts."""
    _, stored = golden("prolip")
    clip = random_clip()
    clip.image.proj.data.copy_(stored["frozen"])
    shown = {"rows": stored["views"][0]}

    def encode_image(views, ports):
        return (shown["rows"] @ (stored["frozen"] + ports.projection["first"]))[:, None]

    monkeypatch.setattr(clip, "encode_image", encode_image)
    monkeypatch.setattr(clip, "encode_text", lambda texts, ports=None: stored["text"][None])
    return build("prolip", clip, CLASS_NAMES, lr=1e-2, epochs=len(stored["order"])), stored, shown


def test_training_is_the_releases(released):
    """The stored values are of the release's own ProLIP (methods/ProLIP.py), run on the CPU on four random views of 15
    random rows of 5 classes, for six epochs at a rate of 0.01 and λ = 1/N."""
    recipe, stored, shown = released
    adapter, (count, train) = recipe.adapter, recipe.stages
    batch = Batch.of(torch.zeros(15, 3, 32, 32), stored["labels"])
    observed(adapter, batch, count)
    assert adapter.head.per_class == 3
    optimiser = build_optimiser(train.optimiser, adapter.trainable())
    for epoch, (view, expected) in enumerate(zip(stored["order"].tolist(), stored["losses"], strict=True)):
        shown["rows"] = stored["views"][view]
        set_rate(optimiser, learning_rate(train.optimiser, epoch, train.epochs, 0, 1))
        loss, _ = train.objective(adapter(batch, needs=train.objective.needs), batch, 0.0)
        torch.testing.assert_close(loss.detach(), expected, rtol=1e-5, atol=1e-5)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    torch.testing.assert_close(adapter.prompt.map().detach(), stored["map"], rtol=1e-4, atol=1e-5)
    shown["rows"] = stored["test"]
    logits = adapter.logits(torch.zeros(8, 3, 32, 32))
    torch.testing.assert_close(logits, stored["logits"], rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("backbone", ["tiny_clip", "tiny_resnet", "pe", "eva", "mobile", "gap", "clipa", "convnext"])
def test_the_map_takes_the_place_of_the_frozen_one(backbone, request):
    known = backbone.startswith("tiny")
    clip = request.getfixturevalue(backbone) if known else copy.deepcopy(tiny_pair(backbone)[1])
    side = clip.image.resolution
    images = torch.rand(3, 3, side, side)
    adapter = build("prolip", clip, NAMES).adapter
    assert torch.equal(adapter.logits(images), build("zeroshot", clip, NAMES).adapter.logits(images))
    other = torch.randn_like(adapter.prompt.frozen)
    adapter.prompt.map.value.data.copy_(other)
    learned = adapter.logits(images)
    frozen = clip.image.last_map.detach().clone()
    try:
        clip.image.last_map.data.copy_(other)
        expected = build("zeroshot", clip, NAMES).adapter.logits(images)
    finally:
        clip.image.last_map.data.copy_(frozen)
    torch.testing.assert_close(learned, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(("weight", "factor"), [(None, 1 / 2), (0.3, 0.3), (0.0, 0.0)])
def test_the_price_is_the_squared_distance_over_the_shots(tiny_clip, images, weight, factor):
    recipe = build("prolip", tiny_clip, NAMES, weight=weight)
    adapter, train = recipe.adapter, recipe.stages[-1]
    adapter.prompt.map.value.data.add_(0.1)
    batch = Batch.of(images[[0, 0, 1, 1, 2, 2]], torch.tensor([0, 0, 1, 1, 2, 2]))
    if weight is None:
        observed(adapter, batch, recipe.stages[0])
    out = adapter(batch, needs=train.objective.needs)
    square = sum(0.1**2 for _ in range(adapter.prompt.frozen.numel()))
    expected = F.cross_entropy(out.logits, batch.labels) + factor * square
    torch.testing.assert_close(train.objective(out, batch, 0.0)[0], expected, rtol=1e-4, atol=1e-4)


def test_a_run_counts_its_shots_and_is_read_back(tiny_clip, tmp_path, images):
    recipe = build("prolip", tiny_clip, NAMES, epochs=3, lr=1e-2)
    run = fit(recipe, few((2, 2, 4), 1), tmp_path / "run", progress="silent")
    assert run.adapter.head.per_class == pytest.approx(8 / 3)
    assert not torch.equal(run.adapter.prompt.map.value, run.adapter.prompt.frozen)
    opened = build("prolip", tiny_clip, NAMES).adapter
    load_adapter(tmp_path / "run", opened)
    assert torch.equal(opened.logits(images), run.adapter.logits(images))


def test_pieces_of_a_batch_count_as_a_whole(tiny_clip, tmp_path):
    maps = []
    for name, accumulate in (("whole", 1), ("pieces", 3)):
        recipe = build("prolip", tiny_clip, NAMES, epochs=2, lr=1e-2)
        run = fit(recipe, few((2, 2, 2), 1), tmp_path / name, progress="silent", accumulate=accumulate)
        maps.append(run.adapter.prompt.map.value)
    torch.testing.assert_close(*maps, rtol=1e-3, atol=1e-4)


def test_the_released_checkpoint_is_read_and_written(tiny_clip, images):
    stored = {"vit_proj": torch.randn(40, 16)}
    adapter = interop.from_published("prolip", stored, tiny_clip, NAMES).adapter
    assert torch.equal(adapter.prompt.map.value, stored["vit_proj"])
    assert torch.equal(interop.to_published("prolip", adapter)["vit_proj"], stored["vit_proj"])
    with pytest.raises(ValueError, match="'vit_proj' is missing"):
        interop.from_published("prolip", {"linear.weight": torch.randn(16, 40)}, tiny_clip, NAMES)


def test_a_tower_that_ends_in_its_pooling_has_no_map():
    with pytest.raises(ValueError, match="a VisionTransformer of timm, has no place for a change of its projection"):
        build("prolip", tiny_pair("siglip")[1], NAMES)


def test_what_cannot_work_is_a_sentence(tiny_clip, monkeypatch):
    with pytest.raises(ValueError, match="prolip: weight must be at least 0"):
        build("prolip", tiny_clip, NAMES, weight=-1.0)
    monkeypatch.setattr(type(tiny_clip.image), "open_at", frozenset())
    with pytest.raises(ValueError, match="a VisionTransformer, has no place for a change of its projection. Use a ViT"):
        build("prolip", tiny_clip, NAMES)


def test_the_port_fits_the_tower(tiny_clip, images):
    adapter = build("prolip", tiny_clip, NAMES).adapter
    ports = adapter.prompt()
    wrong = replace(ports.image, projection={"first": torch.zeros(24, 16)})
    with pytest.raises(ValueError, match=r"projection\[first\] must have shape \(40, 16\), got \(24, 16\)"):
        tiny_clip.encode_image(images[:, None], wrong)
