"""The machine itself: what is computed when, and what is said when it cannot be."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from cliptune import methods
from cliptune.adapter import without_drift
from cliptune.batch import Batch
from cliptune.images import as_batch
from tests.conftest import CLASS_NAMES


def count_text_passes(adapter, monkeypatch) -> list[int]:
    calls: list[int] = []
    encode = adapter.clip.encode_text
    monkeypatch.setattr(adapter.clip, "encode_text", lambda *args: calls.append(1) or encode(*args))
    return calls


def test_logits_are_scaled_cosines(tiny_clip, images):
    out = methods.build("coop", tiny_clip, CLASS_NAMES).adapter(Batch.of(images))
    image = F.normalize(tiny_clip.encode_image(tiny_clip.normalise(images)[:, None])[:, 0], dim=-1)
    expected = 100.0 * image @ out.text_features[0].T
    torch.testing.assert_close(out.logits, expected, rtol=1e-4, atol=1e-4)


def test_unprompted_texts_are_encoded_once_for_ever(tiny_clip, images, monkeypatch):
    adapter = methods.build("vpt", tiny_clip, CLASS_NAMES).adapter
    calls = count_text_passes(adapter, monkeypatch)
    for _ in range(3):
        adapter(Batch.of(images))
    assert len(calls) == 1
    adapter.set_classes(["other", "names"])
    adapter(Batch.of(images))
    assert len(calls) == 2


def test_prompted_texts_are_encoded_once_per_evaluation(tiny_clip, images, monkeypatch):
    adapter = methods.build("coop", tiny_clip, CLASS_NAMES).adapter
    calls = count_text_passes(adapter, monkeypatch)
    features = adapter.text_features()
    for _ in range(4):
        adapter(Batch.of(images), text_features=features)
    assert len(calls) == 1


def test_reference_is_the_zero_shot_answer(tiny_clip, images):
    out = methods.build("maple", tiny_clip, CLASS_NAMES).adapter(Batch.of(images), needs=frozenset({"reference"}))
    zeroshot = methods.build("zeroshot", tiny_clip, CLASS_NAMES).adapter(Batch.of(images))
    torch.testing.assert_close(out.reference.logits, zeroshot.logits)
    assert not out.reference.logits.requires_grad


def test_what_moved_all_texts_alike_is_taken_off():
    features, frozen = (F.normalize(torch.randn(rows, 5, 16), dim=-1) for rows in (2, 1))
    for i in range(2):
        drift = sum(features[i, c] - frozen[0, c] for c in range(5)) / 5
        for c in range(5):
            expected = F.normalize(features[i, c] - drift, dim=0)
            torch.testing.assert_close(without_drift(features, frozen)[i, c], expected)
    torch.testing.assert_close(without_drift(frozen, frozen), frozen)


def test_texts_before_unit_norm_are_asked_for_without_changing_the_answer(tiny_clip, images):
    adapter = methods.build("coop", tiny_clip, CLASS_NAMES).adapter
    adapter.corrects_drift = True
    plain, out = adapter(Batch.of(images)), adapter(Batch.of(images), needs=frozenset({"text_embedding"}))
    assert torch.equal(out.text_features, plain.text_features)
    assert torch.equal(out.logits, plain.logits)


def test_frozen_sides_are_known(tiny_clip):
    sides = {
        name: (methods.build(name, tiny_clip, CLASS_NAMES).adapter) for name in ("zeroshot", "coop", "vpt", "maple")
    }
    assert {n: (a.image_is_frozen, a.text_is_frozen) for n, a in sides.items()} == {
        "zeroshot": (True, True),
        "coop": (True, False),
        "vpt": (False, True),
        "maple": (False, False),
    }


def test_set_classes_keeps_the_template_and_takes_a_new_one(tiny_clip, images):
    adapter = methods.build("zeroshot", tiny_clip, CLASS_NAMES, template="{} texture.").adapter
    adapter.set_classes(["lynx", "puma"])
    assert adapter.classes.template == "{} texture."
    expected = methods.build("zeroshot", tiny_clip, ["lynx", "puma"], template="{} texture.").adapter
    torch.testing.assert_close(adapter(Batch.of(images)).logits, expected(Batch.of(images)).logits)
    adapter.set_classes(["lynx", "puma"], template="a photo of a {}.")
    assert adapter.classes.template == "a photo of a {}."


def test_class_specific_context_refuses_other_classes_of_the_same_number(tiny_clip):
    adapter = methods.build("coop", tiny_clip, CLASS_NAMES, class_specific=True).adapter
    with pytest.raises(ValueError, match="holds values for its 5 training classes"):
        adapter.set_classes(["a", "b", "c", "d", "e"])


def test_images_of_any_form_become_square_batches():
    tall = torch.rand(3, 64, 32)
    assert torch.equal(as_batch(tall, 32)[0], tall[:, 16:48])
    with pytest.raises(ValueError, match=r"shape \(B, 3, h, w\)"):
        as_batch(torch.zeros(2, 1, 8, 8), 8)
    with pytest.raises(ValueError, match="empty list"):
        as_batch([], 8)
