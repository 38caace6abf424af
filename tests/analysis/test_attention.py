"""Attention over a data set, against the formulas written out with loops."""

from __future__ import annotations

import math

import pytest
import torch

from cliptune import methods
from cliptune.analysis import record
from cliptune.analysis.attention import attention_by_group, attention_reach, image_attention
from cliptune.analysis.groups import WORD_GROUPS, word_layout
from cliptune.batch import Batch
from cliptune.texts import ClassSet
from tests.analysis.test_alignment import learned
from tests.conftest import CLASS_NAMES

SIDE, PATCH = 4, 8  # of the tiny CLIP: 32 pixels in patches of 8


@pytest.fixture
def adapter(tiny_clip):
    return learned(tiny_clip, "ivlp", depth_text=2, depth_image=2, n_image=3)


@pytest.fixture
def batches(images):
    masks = torch.zeros(3, 1, 32, 32)
    masks[:, :, 4:20, 8:30] = 1.0
    whole = Batch(images, torch.tensor([3, 0, 3]), torch.arange(3), masks)
    return [whole[:2], whole[2:]]


def weights_of(adapter, images):
    """(images, L, heads, T, T) with the adapter's prompt."""
    with torch.no_grad(), record(adapter, image=[0, 1, 2]) as recording:
        adapter(Batch.of(images))
    return torch.stack([recording.attention["image", layer].weights[:, 0] for layer in range(3)], dim=1).double()


def test_groups_are_sums_of_the_class_tokens_row(adapter, batches, images):
    found = attention_by_group(adapter, batches)
    assert found.groups == ("cls", "foreground", "background", "prompt")
    assert found.n == 3
    truth, weights = torch.zeros(3, 5, 4).double(), weights_of(adapter, images)
    for i in range(3):
        mask = batches[0].masks[0, 0]
        for layer in range(3):
            for head in range(5):
                row = weights[i, layer, head, 0]
                truth[layer, head, 0] += row[0] / 3
                for j in range(SIDE**2):
                    y, x = PATCH * (j // SIDE), PATCH * (j % SIDE)
                    share = float(mask[y : y + PATCH, x : x + PATCH].mean())
                    truth[layer, head, 1] += share * row[1 + j] / 3
                    truth[layer, head, 2] += (1 - share) * row[1 + j] / 3
                for j in range(17, 20):
                    truth[layer, head, 3] += row[j] / 3
    torch.testing.assert_close(found.prompted, truth, rtol=1e-4, atol=1e-6)
    for values in (found.prompted, found.frozen):
        torch.testing.assert_close(values.sum(-1), torch.ones(3, 5).double(), rtol=0, atol=1e-6)
    assert torch.all(found.frozen[..., 3] == 0)
    assert "the class token gives" in found.sentence()


@pytest.mark.parametrize("ask_cls", [False, True])
def test_distance_and_entropy_are_their_formulas(adapter, batches, images, ask_cls):
    found = attention_reach(adapter, batches, ask_cls=ask_cls)
    weights, names = weights_of(adapter, images), ("distance", "distance_raw", "entropy", "entropy_all")
    truth = {name: torch.zeros(3, 5).double() for name in names}
    asking = range(0 if ask_cls else 1, 1 + SIDE**2)
    for i in range(3):
        for layer in range(3):
            for head in range(5):
                for q in asking:
                    row = weights[i, layer, head, q]
                    far = near = 0.0
                    for j in range(1, 1 + SIDE**2):
                        a, b = divmod(q - 1, SIDE), divmod(j - 1, SIDE)
                        near += float(row[j])
                        far += float(row[j]) * PATCH * math.dist(a, b) * (q > 0)
                    real = row[:17] / row[:17].sum()
                    for name, value in (
                        ("distance", far / near),
                        ("distance_raw", far),
                        ("entropy", -sum(float(a) * math.log(a) for a in real)),
                        ("entropy_all", -sum(float(a) * math.log(a) for a in row)),
                    ):
                        truth[name][layer, head] += value / (3 * len(asking))
    for name in names:
        torch.testing.assert_close(getattr(found.prompted, name), truth[name], rtol=1e-4, atol=1e-4)
    assert torch.equal(found.curves("entropy")["with prompt columns"], found.prompted.entropy_all)
    torch.testing.assert_close(found.frozen.entropy, found.frozen.entropy_all, rtol=1e-5, atol=1e-5)
    assert "pixels far in the frozen CLIP" in found.sentence()


def test_a_tower_that_nothing_enters_is_the_frozen_one(tiny_clip, batches):
    groups, reach = image_attention(methods.build("coop", tiny_clip, CLASS_NAMES).adapter, batches)
    assert torch.equal(groups.prompted, groups.frozen)
    assert torch.equal(reach.prompted.distance, reach.frozen.distance)
    assert "no prompt token" in groups.sentence()


def test_views_of_one_image_are_all_counted(tiny_clip, images):
    adapter = learned(tiny_clip, "vp", border=4)
    assert image_attention(adapter, [Batch.of(images)])[0].n == 3


@pytest.mark.parametrize("method", ["coop", "cocoop"])
def test_text_groups_are_sums_of_the_last_row(tiny_clip, batches, images, method):
    adapter = learned(tiny_clip, method)
    found = attention_by_group(adapter, batches, "text")
    with torch.no_grad(), record(adapter, text=range(4)) as recording:
        adapter(Batch.of(images))
    layout, truth = word_layout(adapter), torch.zeros(4, 3, 6).double()
    for layer in range(4):
        weights = recording.attention["text", layer].weights
        for own in weights:
            for k, eot in enumerate(adapter.texts.eot.tolist()):
                for j in range(eot + 1):
                    group = int(layout.group[k, j])
                    truth[layer, :, group] += own[k, :, eot, j].double() / (len(weights) * len(own))
    torch.testing.assert_close(found.prompted, truth, rtol=1e-4, atol=1e-6)
    assert found.groups == WORD_GROUPS[:-1]
    torch.testing.assert_close(found.frozen.sum(-1), torch.ones(4, 3).double(), rtol=0, atol=1e-5)
    assert float(found.frozen[..., 1].max()) == 0
    assert float(found.frozen[..., 2].min()) > 0


def test_words_of_a_sentence_are_told_apart(tiny_clip):
    classes = ClassSet(("Boeing 737-800", "photo", "St. J."), "a photo of a {}, a type of thing.")
    shown = lambda adapter, k: " ".join(
        f"{WORD_GROUPS[g]}" for g in word_layout(adapter).group[k, : int(adapter.texts.eot[k]) + 1].tolist()
    )
    plain = methods.build("zeroshot", tiny_clip, classes).adapter
    # boeing 7 3 7 - 8 0 0
    assert shown(plain, 0) == "sos " + "word " * 4 + "class " * 8 + "word " * 5 + "stop eot"
    assert shown(plain, 1) == "sos " + "word " * 4 + "class " + "word " * 5 + "stop eot"
    learnt = methods.build("coop", tiny_clip, classes, n_ctx=2, words="a photo of a").adapter
    assert shown(learnt, 1) == "sos prompt prompt word word class stop eot"
    # st . j and one token for ".."
    assert shown(learnt, 2) == "sos prompt prompt word word class class class stop eot"
    assert shown(methods.build("coop", tiny_clip, classes, n_ctx=3, position="front", words="").adapter, 1) == (
        "sos class prompt prompt prompt stop eot"
    )


def test_what_has_no_attention_says_so(tiny_resnet, tiny_clip, batches):
    with pytest.raises(ValueError, match="has no tokens"):
        attention_by_group(methods.build("coop", tiny_resnet, CLASS_NAMES).adapter, batches)
    with pytest.raises(ValueError, match="no image to look at"):
        attention_by_group(methods.build("coop", tiny_clip, CLASS_NAMES).adapter, [])
    with pytest.raises(ValueError, match="no image was given"):
        attention_by_group(methods.build("cocoop", tiny_clip, CLASS_NAMES).adapter, [], "text")
