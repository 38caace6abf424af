"""Tokens of two towers from one matrix per layer."""

from __future__ import annotations

import torch

from cliptune.clip.weights.openai import OPENAI_CONFIGS
from cliptune.prompts import DeepTokens, Together
from cliptune.registry import build, count_learnables
from tests.conftest import CLASS_NAMES


def test_image_tokens_are_the_maps_of_the_text_tokens_row_by_row(tiny_clip):
    prompt = build("maple", tiny_clip, CLASS_NAMES, depth=2).adapter.prompt
    ports = prompt()
    for layer, linear in enumerate(prompt.maps):
        text = ports.text.tokens[layer]
        for row in range(len(text)):
            expected = linear.weight @ text[row] + linear.bias
            torch.testing.assert_close(ports.image.tokens[layer][row], expected, rtol=1e-4, atol=1e-5)


def test_without_its_maps_it_answers_the_same(tiny_clip, images):
    """Once trained, the maps may be dropped: independent tokens of both towers, with their values, are the adapter."""
    adapter = build("maple", tiny_clip, CLASS_NAMES, depth=3).adapter
    for p in adapter.trainable().values():
        p.data.add_(0.1 * torch.randn_like(p))
    ports = adapter.prompt()
    towers = {"text": ports.text.tokens, "image": ports.image.tokens}
    free = Together(**{name: DeepTokens(name, list(tokens.values())) for name, tokens in towers.items()})
    torch.testing.assert_close(adapter.with_prompt(free).logits(images), adapter.logits(images), rtol=1e-5, atol=1e-4)
    # What is then stored at the sizes of the paper: 9 layers of 2 tokens in both towers.
    options = {"n_text": 2, "n_image": 2, "depth_text": 9, "depth_image": 9}
    assert count_learnables("ivlp", OPENAI_CONFIGS["ViT-B/16"], **options) == 9 * (1_024 + 1_536)
