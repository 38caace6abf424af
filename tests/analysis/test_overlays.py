"""Overlays: half picture, half map, each map by its own maximum."""

from __future__ import annotations

import pytest
import torch

from cliptune.analysis.frozen import frozen
from cliptune.analysis.looking import class_map
from cliptune.analysis.overlays import laid_over, overlays
from cliptune.batch import Batch
from tests.analysis.test_alignment import learned


def test_maps_are_those_of_the_predicted_class_before_and_after(tiny_clip, images):
    adapter = learned(tiny_clip, "ivlp", depth_text=2, depth_image=2)
    batch = Batch.of(images, torch.tensor([3, 0, 3]))
    found = overlays(adapter, batch, ["a", "b", "c"])
    answers = adapter(batch).logits.argmax(-1)
    asked = Batch.of(images, answers)
    torch.testing.assert_close(torch.stack([one.after for one in found.shown]), class_map(adapter, asked))
    torch.testing.assert_close(torch.stack([one.before for one in found.shown]), class_map(frozen(adapter), asked))
    assert [one.predicted for one in found.shown] == [adapter.class_names[i] for i in answers]
    assert "picture" not in found.to_json()["shown"][0]
    assert -1 <= found.likeness() <= 1
    assert "3 images" in found.sentence()


def test_an_overlay_is_half_picture_half_colour():
    picture, cam = torch.rand(3, 8, 8), torch.rand(2, 2)
    found = laid_over(picture, cam)
    from matplotlib import colormaps

    top = colormaps["cividis"](float(cam[0, 0] / cam.max()))[:3]
    for channel in range(3):
        expected = 0.5 * float(picture[channel, 0, 0]) + 0.5 * top[channel]
        assert float(found[0, 0, channel]) == pytest.approx(expected, abs=0.02)
    torch.testing.assert_close(found, laid_over(picture, 7 * cam), atol=5e-3, rtol=0)


def test_a_map_of_nothing_is_evenly_dark():
    found = laid_over(torch.zeros(3, 4, 4), torch.zeros(2, 2))
    assert float(found.std(dim=(0, 1)).max()) == 0
