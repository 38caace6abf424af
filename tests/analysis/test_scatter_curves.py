"""Features in the plane, curves over settings, gradients of two losses."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from cliptune.analysis.scatter import scatter
from cliptune.analysis.trade_off import agreement, curve, gradient
from cliptune.batch import Batch
from cliptune.registry import build
from tests.conftest import CLASS_NAMES


def test_texts_fall_among_their_images():
    centres = F.normalize(torch.randn(3, 32), dim=-1)
    labels = torch.arange(30) % 3
    features = F.normalize(centres[labels] + 0.05 * torch.randn(30, 32), dim=-1)
    texts = F.normalize(centres + 2 * torch.ones(32), dim=-1)  # a cone apart
    found = scatter(features, labels, texts, ("a", "b", "c"))
    assert found.neighbours == 1.0
    assert found.gap == pytest.approx(float((features.mean(0) - texts.mean(0)).norm()))
    for c in range(3):
        distance = (found.images - found.texts[c]).norm(dim=1)
        assert int(labels[distance.argmin()]) == c
    again = scatter(features, labels, texts, ("a", "b", "c"))
    torch.testing.assert_close(again.images, found.images)


def test_without_texts_images_stand_alone():
    found = scatter(F.normalize(torch.randn(5, 8), dim=-1), torch.arange(5), None, tuple("abcde"))
    assert found.texts is None
    assert "no one text each" in found.sentence()
    with pytest.raises(ValueError, match="at least three"):
        scatter(torch.eye(2, 4), torch.arange(2), None, ("a", "b"))


def test_a_curve_gathers_seeds_by_value():
    points = [(16, {"test": 80.0}), (1, {"test": 50.0, "x": 1.0}), (1, {"test": 54.0}), (4, {"test": 70.0})]
    found = curve("shots", points)
    assert found.values == (1, 4, 16)
    assert found.scores == {"test": ((50.0, 54.0), (70.0,), (80.0,))}
    assert found.mean("test").tolist() == [52.0, 70.0, 80.0]
    assert "from 52.0 % to 80.0 %" in found.sentence()
    with pytest.raises(ValueError, match="at least two values"):
        curve("shots", points[1:3])


def test_gradient_is_that_of_the_mean_loss(tiny_clip, images):
    adapter = build("coop", tiny_clip, CLASS_NAMES).adapter
    batch = Batch.of(images, torch.tensor([3, 0, 2]))
    found = gradient(adapter, [batch[:2], batch[2:]])
    adapter.eval()
    F.cross_entropy(adapter(batch).logits, batch.labels).backward()
    expected = torch.cat([p.grad.flatten() for p in adapter.trainable().values()])
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)
    assert agreement(found, -2 * found) == pytest.approx(-1)
    assert agreement(found, 0 * found) != agreement(found, 0 * found)  # NaN
    with pytest.raises(ValueError, match="nothing in this adapter learns"):
        gradient(build("zeroshot", tiny_clip, CLASS_NAMES).adapter, [batch])
