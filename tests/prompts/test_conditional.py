"""Tokens that depend on the image: what they equal, and what they cost."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from cliptune import methods
from cliptune.batch import Batch
from cliptune.clip import TowerPorts
from tests.conftest import CLASS_NAMES


def test_every_token_of_an_image_moves_by_the_same_vector(tiny_clip):
    prompt = methods.build("cocoop", tiny_clip, CLASS_NAMES).adapter.prompt
    features = F.normalize(torch.randn(3, 1, 16), dim=-1)
    tokens = prompt().text_given(features).tokens[0]
    assert tokens.shape == (3, 1, 4, 24)
    for b in range(3):
        hidden = (prompt.meta.linear1.weight @ features[b, 0] + prompt.meta.linear1.bias).clamp_min(0)
        shift = prompt.meta.linear2.weight @ hidden + prompt.meta.linear2.bias
        for n in range(4):
            torch.testing.assert_close(tokens[b, 0, n], prompt.layers[0].value[n] + shift)


def test_other_leaves_pass_the_condition(tiny_clip):
    prompt = methods.build("cocoop", tiny_clip, CLASS_NAMES).adapter.prompt
    text = TowerPorts({0: torch.zeros(4, 24), 1: torch.ones(4, 24)}, {(0, "mlp_out", "all"): torch.ones(24)})
    given = prompt().condition(text, torch.zeros(2, 1, 16))
    assert given.tokens[1] is text.tokens[1]
    assert given.bias.keys() == text.bias.keys()


def test_a_silent_meta_net_is_coop(tiny_clip, images):
    conditional = methods.build("cocoop", tiny_clip, CLASS_NAMES).adapter
    with torch.no_grad():
        conditional.prompt.meta.linear2.weight.zero_()
        conditional.prompt.meta.linear2.bias.zero_()
    plain = methods.build("coop", tiny_clip, CLASS_NAMES).adapter
    batch = Batch.of(images)
    torch.testing.assert_close(conditional(batch).logits, plain(batch).logits)


def test_text_work_per_image_is_one_prefix_and_the_suffixes(tiny_clip, images, monkeypatch):
    adapter = methods.build("cocoop", tiny_clip, CLASS_NAMES).adapter
    rows: list[int] = []
    block = tiny_clip.text.transformer.blocks[1]
    finish = block.finish
    monkeypatch.setattr(
        block, "finish", lambda x, *rest, **named: rows.append(x.shape[0] * x.shape[1]) or finish(x, *rest, **named)
    )
    adapter(Batch.of(images))
    prefix = adapter.texts.shared_length
    suffixes = int((adapter.texts.eot + 1 - prefix).sum())
    assert prefix == 1 + 4
    assert sum(rows) == len(images) * (prefix + suffixes)


def test_evaluation_in_chunks_of_classes_changes_nothing(tiny_clip, images, monkeypatch):
    adapter = methods.build("cocoop", tiny_clip, CLASS_NAMES).adapter
    whole = adapter.logits(images)
    monkeypatch.setattr(tiny_clip.text, "max_rows", 10)
    torch.testing.assert_close(adapter.logits(images), whole)
