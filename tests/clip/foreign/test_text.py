"""Text towers of open_clip in CLIP's own blocks, against the library's own pass, without and with prompts."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from cliptune.clip.foreign.build import behind_ports
from cliptune.clip.ports import TowerPorts
from cliptune.clip.tokens import TokenBatch
from tests.clip.foreign.tiny import BPE, SENTENCES, tiny_config, tiny_model, tiny_pair

EXACT = {"rtol": 1e-5, "atol": 1e-5}
VOCAB, CONTEXT, D, N = 300, 20, 24, 4
SHORT = {"vocab_size": VOCAB, "context_length": CONTEXT}
TEXTS: dict[str, dict[str, Any]] = {
    "causal, argmax": {**BPE, **SHORT},
    "causal, eos": {**BPE, **SHORT, "pool_type": "eos", "eos_id": 2},
    "causal, last": {**BPE, **SHORT, "pool_type": "last"},
    "both ways, argmax": {**BPE, **SHORT, "no_causal_mask": True},
    "both ways, last": {**SENTENCES, **SHORT},
    "both ways, first": {**SENTENCES, **SHORT, "pool_type": "first"},
    "no projection": {**SENTENCES, **SHORT, "proj_type": "none", "proj_bias": False},
}


def ids_with(end: int, lengths: tuple[int, ...] = (7, 12, CONTEXT)) -> Tensor:
    draw = torch.Generator().manual_seed(4)
    ids = torch.zeros(len(lengths), CONTEXT, dtype=torch.int64)
    for row, length in enumerate(lengths):
        ids[row, : length - 1] = torch.randint(3, VOCAB - 2, (length - 1,), generator=draw)
        ids[row, length - 1] = end
    return ids


@pytest.fixture(params=TEXTS)
def pair(request) -> tuple[Any, Any, Tensor]:
    config = tiny_config("eva")
    config["text_cfg"] = TEXTS[request.param]
    if request.param == "no projection":
        config["embed_dim"] = 24
    model = tiny_model("eva", config=config)
    end = 2 if "eos" in request.param else VOCAB - 1
    return model.text, behind_ports(model, config, request.param, None).text, ids_with(end)


def test_without_prompts_it_is_the_librarys_own_pass(pair):
    theirs, ours, ids = pair
    torch.testing.assert_close(ours(TokenBatch.plain(ids))[0], theirs(ids), **EXACT)
    ours.plain = True
    torch.testing.assert_close(ours(TokenBatch.plain(ids))[0], theirs(ids), **EXACT)


def walked(theirs: Any, ids: Tensor, slots: Tensor, tokens: dict[int, Tensor]) -> Tensor:
    """The library's own blocks over embeddings in which prompts stand at their places; positions are those places'."""
    x = theirs.token_embedding(ids)
    rows = torch.arange(len(ids))[:, None]
    x[rows, slots] = tokens[0].expand(len(ids), -1, -1)
    x = x + theirs.positional_embedding[: x.shape[1]]
    mask = theirs.attn_mask
    for i, block in enumerate(theirs.transformer.resblocks):
        if i and i in tokens:
            x[rows, slots] = tokens[i].expand(len(ids), -1, -1)
        x = block(x, attn_mask=mask)
    x = theirs.ln_final(x)
    at = {
        "argmax": ids.argmax(dim=-1),
        "eos": (ids == theirs.eos_id).int().argmax(dim=-1),
        "last": torch.full((len(ids),), -1),
        "first": torch.zeros(len(ids), dtype=torch.int64),
    }[theirs.pool_type]
    pooled = x[torch.arange(len(ids)), at]
    projection = theirs.text_projection
    if projection is None:
        return pooled
    return projection(pooled) if isinstance(projection, torch.nn.Linear) else pooled @ projection


@pytest.mark.parametrize("layers", [(0,), (0, 1, 2, 3), (0, 2)])
def test_prompts_are_rows_of_the_librarys_own_blocks(pair, layers):
    theirs, ours, ids = pair
    slots = torch.tensor([[1, 2, 3, 4], [1, 2, 8, 9], [0, 5, 6, 18]])
    draw = torch.Generator().manual_seed(2)
    for shape in ((N, D), (3, N, D)):
        tokens = {layer: torch.randn(shape, generator=draw) for layer in layers}
        found = ours(TokenBatch(ids, slots), TowerPorts(tokens))[0]
        torch.testing.assert_close(found, walked(theirs, ids, slots, tokens), **EXACT)


def test_a_tower_that_sees_padding_neither_crops_nor_shares(pair):
    _, ours, ids = pair
    texts = TokenBatch.plain(ids[:2, :14])
    if ours.croppable:
        torch.testing.assert_close(ours(texts), ours(TokenBatch.plain(ids[:2])), **EXACT)
        return
    with pytest.raises(ValueError, match=f"every text must have its context of {CONTEXT} tokens, got 14"):
        ours(texts)


def test_a_class_token_after_the_text_is_read():
    model, clip = tiny_pair("coca")
    ids = clip.tokenize(["a photo of a cat.", "a much longer sentence about some other dog!"]).ids
    torch.testing.assert_close(clip.encode_text(TokenBatch.plain(ids))[0], model.text(ids)[0], **EXACT)
    full = ids.clone()
    full[0, 1:] = ids[0, 1:].clamp(min=5)
    full[0, -1] = 49407
    torch.testing.assert_close(clip.encode_text(TokenBatch.plain(full))[0], model.text(full)[0], **EXACT)
    slots = torch.tensor([[1, 2, 3, 4]] * 2)
    own = {0: model.text.token_embedding(ids[:, 1:5])}
    found = clip.encode_text(TokenBatch(ids, slots), TowerPorts(own))
    torch.testing.assert_close(found[0], model.text(ids)[0], **EXACT)


def test_per_image_prompts_in_a_tower_that_sees_padding():
    model, clip = tiny_pair("siglip")
    ids = torch.randint(3, VOCAB, (2, clip.text.context))
    slots, tokens = torch.tensor([[0, 1, 2, 3]] * 2), torch.randn(3, 1, N, D)
    together = clip.encode_text(TokenBatch(ids, slots), TowerPorts({0: tokens}))
    assert together.shape == (3, 2, 40)
    for i in range(3):
        alone = clip.encode_text(TokenBatch(ids, slots), TowerPorts({0: tokens[i, 0]}))
        torch.testing.assert_close(together[i], alone[0], **EXACT)
    assert model.text.attn_mask is None


def test_blocks_with_other_options_are_refused_in_a_sentence():
    config = tiny_config("eva", ls_init_value=0.1)
    with pytest.raises(ValueError, match="text tower has blocks of the kind ResidualAttentionBlock with options"):
        behind_ports(tiny_model("eva", config=config), config, "scaled", None)
    config = tiny_config("eva", pool_type="none")
    with pytest.raises(ValueError, match="pools by 'none', and only argmax, eos, last, first"):
        behind_ports(tiny_model("eva", config=config), config, "none", None)
