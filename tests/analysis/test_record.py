"""Recording attention: names, sums, and that nothing is left behind."""

from __future__ import annotations

import pytest
import torch

from cliptune import methods
from cliptune.analysis import record
from cliptune.batch import Batch
from tests.conftest import CLASS_NAMES


@pytest.fixture
def adapter(tiny_clip):
    return methods.build("maple", tiny_clip, CLASS_NAMES, depth=2).adapter


def test_recording_changes_nothing_and_leaves_nothing(adapter, images):
    batch = Batch.of(images)
    before = adapter(batch).logits
    with record(adapter, image=[0, 2], text=[1, 3]) as recording:
        inside = adapter(batch).logits
    torch.testing.assert_close(inside, before, rtol=1e-4, atol=1e-4)
    assert set(recording.attention) == {("image", 0), ("image", 2), ("text", 1), ("text", 3)}
    assert torch.equal(adapter(batch).logits, before)
    blocks = [*adapter.clip.image.transformer.resblocks, *adapter.clip.text.transformer.resblocks]
    assert all(block.attn.tap is None for block in blocks)
    assert not adapter.clip.image._forward_pre_hooks
    assert not adapter.clip.text._forward_pre_hooks


def test_taps_are_cleared_even_on_error(adapter):
    with pytest.raises(RuntimeError, match="inside"), record(adapter, text=[0]):
        raise RuntimeError("inside")
    assert adapter.clip.text.transformer.resblocks[0].attn.tap is None


def test_groups_partition_the_attention(adapter, images):
    with record(adapter, image=[1], text=[2]) as recording:
        adapter(Batch.of(images))
    image, text = recording.attention["image", 1], recording.attention["text", 2]
    assert image.query("cls").key("prompt").weights.shape == (3, 1, 5, 1, 2)
    assert text.query("eot").key("prompt").weights.shape == (1, len(CLASS_NAMES), 3, 1, 2)
    for attention, names in ((image, ("cls", "patch", "prompt")), (text, ("sos", "prompt", "class", "eot", "pad"))):
        total = sum(attention.mass(name) for name in names)
        torch.testing.assert_close(total, torch.ones_like(total))
    eot = text.query("eot")
    assert torch.all(eot.mass("pad") == 0)
    one_by_one = torch.stack([text.weights[0, k, :, int(adapter.texts.eot[k])] for k in range(len(CLASS_NAMES))])
    torch.testing.assert_close(eot.weights[0, :, :, 0], one_by_one)


def test_uneven_groups_and_absent_blocks_say_so(adapter, images):
    with record(adapter, text=[0]) as recording:
        adapter(Batch.of(images))
    with pytest.raises(ValueError, match="Use `mass`"):
        recording.attention["text", 0].key("class")
    with pytest.raises(ValueError, match="has 3 transformer blocks"), record(adapter, image=[3]):
        pass
