"""The parts of a score add up to it, and each part is what its words say."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from cliptune import methods
from cliptune.analysis import token_contributions
from cliptune.batch import Batch
from tests.conftest import CLASS_NAMES, TINY, random_clip

METHODS = ("zeroshot", "coop", "vpt", "ivlp", "maple", "cocoop", "bias_tuning", "clip_lora", "maple+bias", "coop+rlp")
DEPTH = {"ivlp": {"depth_text": 3, "depth_image": 2}, "vpt": {"depth": 2}, "maple": {"depth": 2}}


def learned(clip, method: str, **options):
    """An adapter whose learnables are not at their start."""
    adapter = methods.build(method, clip, CLASS_NAMES, **options).adapter
    generator = torch.Generator().manual_seed(3)
    for value in adapter.trainable().values():
        value.data.add_(0.2 * torch.randn(value.shape, generator=generator))
    return adapter


@pytest.fixture
def batch(images) -> Batch:
    return Batch.of(images, torch.tensor([3, 0, 3]))


def total(found):
    return found.tokens.sum(dim=-1) + found.mlp + found.bias + found.start + found.constant


@pytest.mark.parametrize("tower", ["image", "text"])
@pytest.mark.parametrize("method", METHODS)
def test_the_parts_add_up_to_the_score(method, tower, tiny_clip, batch):
    adapter = learned(tiny_clip, method, **(DEPTH.get(method.split("+")[0], {})))
    found = token_contributions(adapter, batch, tower)
    with adapter.evaluating(), torch.no_grad():
        similarity = adapter(batch).similarity[torch.arange(3), 0, batch.labels]
    torch.testing.assert_close(found.score, similarity.double())
    torch.testing.assert_close(total(found), found.score, rtol=0, atol=2e-4)
    shares = sum(found.share(name) for name in found.layout.names)
    torch.testing.assert_close(shares, found.relative.sum(dim=-1))
    torch.testing.assert_close(found.relative.abs().sum(dim=-1), torch.ones(3).double())
    blocks = [*adapter.clip.image.transformer.blocks, *adapter.clip.text.transformer.blocks]
    assert all(block.attn.tap is None and not block.mlp._forward_hooks for block in blocks)


def test_the_margin_adds_up_too(tiny_clip, batch):
    found = token_contributions(learned(tiny_clip, "ivlp", **DEPTH["ivlp"]), batch, margin=True)
    torch.testing.assert_close(total(found), found.score, rtol=0, atol=2e-4)
    assert found.layout.positions("prompt").tolist() == [17, 18]


@torch.no_grad()
def test_tokens_after_the_end_contribute_nothing_and_one_block_is_the_formula(batch):
    """One block written out: c_j = Σ_h a_qj ⟨w, W_O v_j⟩."""
    clip = random_clip(replace(TINY, text_layers=1), seed=2)
    adapter = methods.build("zeroshot", clip, CLASS_NAMES).adapter
    found = token_contributions(adapter, batch, "text")
    assert torch.all(found.tokens[found.layout.mask("pad").expand(3, -1)] == 0)

    # The first image of the batch is of class 3.
    label, text, block = 3, clip.text, clip.text.transformer.blocks[0]
    eot, ids = int(adapter.texts.eot[label]), adapter.texts.ids[label]
    x = text.token_embedding(ids) + text.positional_embedding[: len(ids)]
    q, k, v = (part.view(-1, block.attn.heads, 8) for part in block.attn.qkv(block.ln_1(x)))
    image = F.normalize(clip.encode_image(clip.normalise(batch.images)[:, None]), dim=-1)[0, 0]
    weights = [(q[eot, h] @ k[: eot + 1, h].T / 8**0.5).softmax(dim=-1) for h in range(block.attn.heads)]
    attended = torch.cat([a @ v[: eot + 1, h] for h, a in enumerate(weights)])
    row = x[eot] + block.attn.out_proj(attended)
    row = row + block.mlp(block.ln_2(row))
    direction = text.ln_final.weight * (text.text_projection @ image)
    direction = (direction - direction.mean()) / (row.var(correction=0) + 1e-5).sqrt()
    direction = direction * clip.scale / (text.ln_final(row) @ text.text_projection).norm()
    expected = torch.zeros(len(ids))
    for h, a in enumerate(weights):
        part = block.attn.out_proj.weight[:, h * 8 : (h + 1) * 8]
        for j in range(eot + 1):
            expected[j] += a[j] * (direction @ (part @ v[j, h]))
    torch.testing.assert_close(found.tokens[0].float(), expected, rtol=1e-4, atol=1e-4)


def test_what_has_no_such_parts_says_so(tiny_clip, tiny_resnet, batch):
    adapter = learned(tiny_clip, "coop")
    unlabelled = Batch.of(batch.images)
    resnet = methods.build("coop", tiny_resnet, CLASS_NAMES).adapter
    wide = Batch.of(torch.rand(2, 3, 64, 64), torch.tensor([0, 1]))
    ensemble = methods.build("zeroshot", tiny_clip, CLASS_NAMES, templates="selected7").adapter
    for given, of, tower, margin, sentence in (
        (adapter, batch, "head", False, "the tower must be image or text, got 'head'"),
        (adapter, batch, "text", True, "a margin compares two classes"),
        (adapter, unlabelled, "image", False, "a label from 0 to 4"),
        (resnet, wide, "image", False, "has no tokens. Ask for the text tower"),
        (ensemble, batch, "text", False, "averages, or another CLIP's"),
    ):
        with pytest.raises(ValueError, match=sentence):
            token_contributions(given, of, tower, margin=margin)
    assert token_contributions(resnet, wide, "text").tokens.shape[0] == 2
    assert token_contributions(ensemble, batch).tokens.shape == (3, 17)
