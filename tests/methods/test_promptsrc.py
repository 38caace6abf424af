"""PromptSRC's frozen references, each of its terms, and the trajectory of its average, as released."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from cliptune import interop, methods
from cliptune.batch import Batch
from cliptune.methods.promptsrc import published_name
from cliptune.texts import ensemble
from cliptune.training.optim import build_optimiser, set_rate
from cliptune.training.schedules import learning_rate
from tests.conftest import CLASS_NAMES
from tests.golden.reference import assert_equals, golden, published_start, reference_batch, reference_clip

META, TENSORS = golden("promptsrc")
CASES = [case for case in META["cases"] if case != "gpa"]


def released(case: str, **options):
    start = published_start("promptsrc", case)
    return interop.from_published("promptsrc", start, reference_clip("vit_small"), META["classnames"], **options)


def test_frozen_references_equal_the_release():
    out = released("t4v4_d11").adapter(reference_batch(), needs=frozenset({"reference"}))
    assert_equals(out.reference.text_features[0], TENSORS, "frozen/text")
    assert_equals(out.reference.image_features[:, 0], TENSORS, "frozen/image")
    assert_equals(out.reference.logits, TENSORS, "frozen/zero_shot_logits")


@pytest.mark.parametrize("case", CASES)
def test_features_and_terms_equal_the_release(case):
    recipe = released(case)
    out = recipe.adapter(reference_batch(), needs=frozenset({"reference"}))
    _, parts = recipe.stages[0].objective(out, reference_batch(), 0.0)
    assert_equals(out.image_features[:, 0], TENSORS, f"{case}/image_features")
    assert_equals(out.text_features[0], TENSORS, f"{case}/text_features")
    names = {"ce": "ce", "text": "scl_text", "image": "scl_image", "logits": "scl_logits"}
    for ours, theirs in names.items():
        assert_equals(parts[ours], TENSORS, f"{case}/loss_{theirs}")
        if not any(key.startswith(f"{case}/grad_{theirs}/") for key in TENSORS):
            continue
        trainable = recipe.adapter.trainable()
        grads = torch.autograd.grad(parts[ours], trainable.values(), retain_graph=True, allow_unused=True)
        for name, grad in zip(trainable, grads, strict=True):
            if grad is not None:
                assert_equals(grad, TENSORS, f"{case}/grad_{theirs}/{published_name(name)}")


def test_average_over_epochs_equals_the_release():
    given = META["cases"]["gpa"]
    recipe = released("t4v4_d33", epochs=given["epochs"], gpa_mean=given["gpa_mean"], gpa_std=given["gpa_std"])
    adapter, stage, whole = recipe.adapter, recipe.stages[0], reference_batch()
    optimiser = build_optimiser(stage.optimiser, adapter.trainable().values())
    losses = []
    for epoch in range(stage.epochs):
        set_rate(optimiser, learning_rate(stage.optimiser, epoch, stage.epochs))
        for rows in given["batches"]:
            batch = Batch(whole.images[rows], whole.labels[rows], whole.index[rows])
            loss, _ = stage.objective(adapter(batch, needs=stage.objective.needs), batch, 0.0)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            losses.append(loss.detach())
        if f"gpa/epoch{epoch + 1}/prompt_learner.ctx" in TENSORS:
            for name, value in interop.to_published("promptsrc", adapter).items():
                assert_equals(value, TENSORS, f"gpa/epoch{epoch + 1}/{name}")
        stage.after_epoch[0](adapter, epoch, stage.epochs)
    assert_equals(torch.stack(losses), TENSORS, "gpa/losses")
    for name, value in interop.to_published("promptsrc", adapter).items():
        assert_equals(value, TENSORS, f"gpa/aggregated/{name}")
    with torch.no_grad():
        assert_equals(adapter(whole).logits, TENSORS, "gpa/logits")


def test_reference_text_is_the_mean_of_raw_features(tiny_clip, images):
    adapter = methods.build("promptsrc", tiny_clip, CLASS_NAMES).adapter
    text = adapter.reference(Batch.of(images)).text_features
    for c, name in enumerate(CLASS_NAMES):
        sentences = tiny_clip.tokenize([template.format(name) for template in ensemble("promptsrc60")])
        mean = tiny_clip.encode_text(sentences)[0].mean(dim=0)
        torch.testing.assert_close(text[0, c], F.normalize(mean, dim=0), rtol=1e-4, atol=1e-5)
