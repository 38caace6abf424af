"""GDA on classes that it was not trained on."""

from __future__ import annotations

import pytest
import torch

from cliptune.protocols import base2new, domain_generalization
from cliptune.registry import build
from cliptune.runs import load_adapter
from cliptune.texts import ClassSet
from cliptune.training import fit
from tests.training.support import NAMES, squares

OTHERS = ("yellow", "violet", "red", "orange")


def test_new_classes_are_answered_and_the_trained_ones_as_before(tiny_clip, images, tmp_path):
    adapter = fit(build("gda", tiny_clip, NAMES, alpha=2.0), squares(), tmp_path / "run").adapter
    before = adapter.logits(images)
    new = adapter.for_texts(OTHERS)
    zero_shot = build("zeroshot", tiny_clip, OTHERS).adapter.logits(images)
    added = new.logits(images) - zero_shot
    head = adapter.head.for_classes(new.text_features(), (-1, -1, 0, -1))
    features = torch.nn.functional.normalize(tiny_clip.encode_image(tiny_clip.normalise(images)[:, None])[:, 0], dim=-1)
    torch.testing.assert_close(added, 2 * (features @ head.weight.T + head.bias), rtol=1e-3, atol=1e-3)
    assert added.abs().max() > 0.1
    assert torch.equal(adapter.logits(images), before)
    opened = build("gda", tiny_clip, NAMES, alpha=2.0).adapter
    load_adapter(tmp_path / "run", opened)
    assert torch.equal(opened.set_classes(OTHERS).logits(images), new.logits(images))


def test_the_order_of_trained_classes_changes_nothing_but_the_order(tiny_clip, images):
    adapter = fit(build("gda", tiny_clip, NAMES), squares()).adapter
    before = adapter.logits(images)
    torch.testing.assert_close(adapter.for_texts(NAMES[::-1]).logits(images), before.flip(1))
    torch.testing.assert_close(adapter.for_texts(NAMES[1:]).logits(images), before[:, 1:])
    assert adapter.for_texts(NAMES[::-1]).seen


def test_an_adapter_without_images_leaves_new_classes_to_the_texts(tiny_clip, images):
    said = build("gda", tiny_clip, NAMES).adapter.for_texts(OTHERS).logits(images)
    expected = build("zeroshot", tiny_clip, OTHERS).adapter.logits(images)
    torch.testing.assert_close(said.log_softmax(-1), expected.log_softmax(-1))


@pytest.mark.parametrize("views", [0, 2])
def test_base_to_new_scores_both_halves(tiny_clip, dataset, tmp_path, views):
    ask = lambda: base2new(
        "gda", tiny_clip, dataset, shots=2, out=tmp_path / "run", options={"views": views}, progress="silent"
    )
    result = ask()
    assert result["new"] is not None
    assert result["harmonic_mean"] is not None
    assert "why_no_new" not in result
    assert ask()["new"] == result["new"]


def test_some_of_the_classes_in_another_domain_are_asked_of_their_own_gaussians(tiny_clip, dataset):
    from dataclasses import replace

    drawn = replace(dataset, name="drawn")
    result = domain_generalization("gda", tiny_clip, dataset, [drawn], shots=4, progress="silent")
    assert result["evaluations"]["drawn/test"]["accuracy"] == result["evaluations"]["test"]["accuracy"]
    classes = ClassSet(dataset.class_names, dataset.template)
    assert build("gda", tiny_clip, classes).adapter.for_texts(classes).seen
