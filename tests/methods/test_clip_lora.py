"""CLIP-LoRA's start, scale and length."""

from __future__ import annotations

import math

import pytest
import torch

from cliptune import methods
from cliptune.batch import Batch
from cliptune.clip.folding import DeltaFold
from cliptune.clip.weights.openai import OPENAI_CONFIGS
from tests.conftest import CLASS_NAMES


def test_it_starts_at_the_frozen_clip(tiny_clip, images):
    adapter = methods.build("clip_lora", tiny_clip, CLASS_NAMES).adapter
    zeroshot = methods.build("zeroshot", tiny_clip, CLASS_NAMES).adapter
    torch.testing.assert_close(adapter.logits(images), zeroshot.logits(images))


@pytest.mark.parametrize(("rank", "alpha"), [(2, 1.0), (4, 3.0)])
def test_the_change_is_scaled_by_alpha_over_root_rank_and_folds(tiny_clip, images, rank, alpha):
    adapter = methods.build("clip_lora", tiny_clip, CLASS_NAMES, rank=rank, alpha=alpha).adapter
    with torch.no_grad():
        for parameter in adapter.prompt.parameters():
            parameter.normal_(std=0.3)
    adapter.eval()
    ports = adapter.prompt()
    factors = adapter.prompt.towers["text"][1]["k"]
    expected = alpha / math.sqrt(rank) * factors.up @ factors.down
    torch.testing.assert_close(ports.text.delta[1, "k"].product, expected)
    live = adapter.logits(images)
    plain = methods.build("zeroshot", tiny_clip, CLASS_NAMES).adapter
    with DeltaFold(tiny_clip, ports.image, ports.text):
        torch.testing.assert_close(plain.logits(images), live, rtol=1e-4, atol=1e-3)


def test_dropout_acts_in_training_only(tiny_clip, images):
    adapter = methods.build("clip_lora", tiny_clip, CLASS_NAMES, dropout=0.5).adapter
    assert adapter.prompt().text.delta[0, "q"].dropout == 0.5
    assert adapter.eval().prompt().text.delta[0, "q"].dropout == 0.0


def test_towers_and_projections_can_be_chosen(tiny_resnet):
    count = lambda **options: methods.count_learnables("clip_lora", OPENAI_CONFIGS["ViT-B/16"], **options)
    assert count() == 184_320
    assert count(towers="text") == 73_728
    assert count(towers="image") == 110_592
    assert count(projections="v", rank=1) == 12 * (2 * 512 + 2 * 768)
    with pytest.raises(ValueError, match="Use a ViT backbone, or towers='text'"):
        methods.build("clip_lora", tiny_resnet, CLASS_NAMES)
    text_only = methods.build("clip_lora", tiny_resnet, CLASS_NAMES, towers="text").adapter
    assert text_only(Batch.of(torch.rand(2, 3, 64, 64))).logits.shape == (2, 5)


def test_published_length_is_500_steps_per_shot(tiny_clip):
    options = methods.published_options("clip_lora", "few_shot")
    names = [f"class {i}" for i in range(100)]
    stage = methods.build("clip_lora", tiny_clip, names, **options).stages[0]
    for shots in (4, 16):
        steps = stage.epochs * (100 * shots // stage.batch_size)
        assert steps == pytest.approx(500 * shots, rel=0.05)


def test_bad_options_get_a_sentence(tiny_clip):
    for options, sentence in (
        ({"rank": 0}, "between 1 and 24, got 0"),
        ({"dropout": 1.0}, r"in \[0, 1\), got 1.0"),
        ({"projections": "qo"}, "some of q, k, v"),
        ({"towers": "none"}, "both, image, text"),
    ):
        with pytest.raises(ValueError, match=sentence):
            methods.build("clip_lora", tiny_clip, CLASS_NAMES, **options)
