"""Being shown attention, and replacing what comes of it."""

from __future__ import annotations

import pytest
import torch

from cliptune import methods
from cliptune.analysis.taps import tapped
from cliptune.batch import Batch
from tests.conftest import CLASS_NAMES


@pytest.fixture
def adapter(tiny_clip):
    return methods.build("maple", tiny_clip, CLASS_NAMES, depth=2).adapter


@torch.no_grad()
def test_what_a_tap_gives_back_stands_in_the_heads_place(adapter, images):
    batch = Batch.of(images)
    before = adapter(batch).logits
    for tower in ("image", "text"):
        with tapped(adapter, tower, lambda at: at.weights @ at.values):
            torch.testing.assert_close(adapter(batch).logits, before, rtol=1e-4, atol=1e-4)
        with tapped(adapter, tower, lambda at: torch.zeros_like(at.values), layers=[1]):
            changed = adapter(batch).logits
        assert (changed - before).abs().max() > 0.1
    assert torch.equal(adapter(batch).logits, before)


@torch.no_grad()
def test_layouts_are_those_of_every_sequence(adapter, images):
    seen = {}
    for tower in ("image", "text"):
        with tapped(adapter, tower, lambda at, tower=tower: seen.update({tower: at}), layers=[2]):
            adapter(Batch.of(images))
    assert seen["image"].lead == (3, 1)
    assert seen["image"].each_layout.shape == seen["image"].weights.shape[::3]
    assert seen["text"].lead == (1, len(CLASS_NAMES))
    assert seen["text"].each_layout.equal(adapter.texts.layout.group)
