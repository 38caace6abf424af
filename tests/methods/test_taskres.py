"""TaskRes against its release, and what it does at the port."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from cliptune.batch import Batch
from cliptune.registry import build
from cliptune.runs import load_adapter
from cliptune.texts import ensemble
from cliptune.training import fit
from cliptune.training.optim import build_optimiser, set_rate
from tests.conftest import CLASS_NAMES, random_clip
from tests.golden.reference import golden
from tests.training.support import NAMES, few


@pytest.fixture
def released(monkeypatch):
    """The method on a CLIP whose text tower gives the stored embeddings, eight sentences for each of five classes."""
    _, stored = golden("taskres")
    clip = random_clip()
    monkeypatch.setattr(clip, "encode_text", lambda texts, ports=None: stored["text_embedding"].flatten(0, 1)[None])
    return build("taskres", clip, CLASS_NAMES, templates="selected7"), stored


def test_training_is_the_releases(released):
    """The stored values are of the release's own CustomCLIP and TaskResLearner (trainers/taskres.py), with random
    embeddings in place of the towers' and four steps of Adam as Dassl builds it."""
    recipe, stored = released
    adapter, stage = recipe.adapter, recipe.stages[0]
    batch = Batch.of(torch.zeros(12, 0), stored["labels"])
    optimiser = build_optimiser(stage.optimiser, adapter.trainable())
    for rate, expected in zip(stored["rates"].tolist(), stored["losses"], strict=True):
        set_rate(optimiser, rate)
        loss, _ = stage.objective(adapter(batch, image_embedding=stored["image_embedding"][:, None]), batch, 0.0)
        torch.testing.assert_close(loss.detach(), expected, rtol=1e-5, atol=1e-5)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    torch.testing.assert_close(adapter.prompt.residual().detach(), stored["residual"], rtol=1e-3, atol=1e-6)
    with torch.no_grad():
        logits = adapter(batch, image_embedding=stored["image_embedding"][:, None]).logits
    torch.testing.assert_close(logits, stored["logits"], rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("templates", ["", "selected7"])
def test_the_residual_is_added_to_mean_embeddings_before_unit_norm(tiny_clip, images, templates):
    adapter = build("taskres", tiny_clip, NAMES, alpha=0.7, templates=templates).adapter
    torch.nn.init.normal_(adapter.prompt.residual.value)
    features = tiny_clip.encode_image(tiny_clip.normalise(images)[:, None])[:, 0]
    sentences = (*(ensemble(templates) if templates else ()), adapter.classes.template)
    expected = torch.zeros(3, 3)
    for c, name in enumerate(NAMES):
        texts = [tiny_clip.encode_text(tiny_clip.tokenize([s.format(name)]))[0, 0] for s in sentences]
        text = sum(texts) / len(texts) + 0.7 * adapter.prompt.residual.value[c]
        for b in range(3):
            expected[b, c] = tiny_clip.scale * F.cosine_similarity(features[b], text, dim=0)
    torch.testing.assert_close(adapter.logits(images), expected.detach(), rtol=1e-4, atol=1e-4)
    unit = F.normalize(features, dim=-1)
    torch.testing.assert_close(adapter.fold()(unit[:, None]), expected.detach(), rtol=1e-4, atol=1e-4)


def test_the_start_is_zero_shot_and_the_texts_are_encoded_once(tiny_clip, images, monkeypatch):
    adapter = build("taskres", tiny_clip, NAMES).adapter
    expected = build("zeroshot", tiny_clip, NAMES).adapter.logits(images)
    asked = []
    encode = tiny_clip.encode_text
    monkeypatch.setattr(tiny_clip, "encode_text", lambda *given: asked.append(1) or encode(*given))
    torch.testing.assert_close(adapter.logits(images), expected)
    adapter.logits(images)
    assert len(asked) == 1
    assert not adapter.text_is_frozen
    assert adapter.image_is_frozen


@pytest.mark.parametrize(("counts", "times"), [((1, 1, 1), 1), ((0, 1, 3), 1), ((2, 2, 2), 2)])
def test_any_number_of_images_per_class_trains(tiny_clip, tmp_path, images, counts, times):
    recipe = build("taskres", tiny_clip, NAMES, epochs=3)
    run = fit(recipe, few(counts, times), tmp_path / "run", progress="silent")
    assert run.adapter.prompt.residual.value.isfinite().all()
    assert run.adapter.prompt.residual.value.abs().max() > 0
    opened = build("taskres", tiny_clip, NAMES).adapter
    load_adapter(tmp_path / "run", opened)
    assert torch.equal(opened.logits(images), run.adapter.logits(images))


def test_other_classes_are_refused(tiny_clip):
    with pytest.raises(ValueError, match="cannot speak of other classes"):
        build("taskres", tiny_clip, NAMES).adapter.set_classes(("yellow", "violet"))
