"""The fast text path against the plain one, for every kind of prompt that the ports allow."""

from __future__ import annotations

import pytest
import torch

from cliptune.clip import CLIP, TokenBatch, TowerPorts
from tests.conftest import CLASS_NAMES

K, N, D, LAYERS, IMAGES = len(CLASS_NAMES), 4, 24, 4, 3


def texts_with_slots(clip: CLIP, position: str) -> TokenBatch:
    """'X X X X name.' with the placeholders at the end, in the middle or in front of the name."""
    x = " ".join(["X"] * N)
    half = " ".join(["X"] * (N // 2))
    phrase = {"end": f"{x} {{}}.", "middle": f"{half} {{}} {half}.", "front": f"{{}} {x}."}[position]
    batch = clip.tokenize([phrase.format(name) for name in CLASS_NAMES])
    marker = clip.tokenizer.encode("X")[0]
    slots = torch.stack([(row == marker).nonzero()[:, 0][:N] for row in batch.ids])
    return TokenBatch(batch.ids, slots)


def random_ports(lead: tuple[int, ...], depth: int, bias_lead: tuple[int, ...] | None = None) -> TowerPorts:
    g = torch.Generator().manual_seed(3)
    leaf = lambda *shape: torch.randn(*shape, generator=g).mul(0.3).requires_grad_()
    bias = {}
    if bias_lead is not None:
        bias = {
            (layer, site, group): leaf(*bias_lead, D)
            for layer in range(LAYERS)
            for site, group in (("attn_out", "all"), ("mlp_out", "eot"), ("mlp_out", "prompt"), ("attn_out", "class"))
        }
    return TowerPorts({i: leaf(*lead, N, D) for i in range(depth)}, bias)


def both_paths(clip: CLIP, texts: TokenBatch, ports: TowerPorts) -> None:
    """Features and the gradient of a random projection, plain and fast, must agree."""
    results = []
    for plain in (True, False):
        clip.text.plain = plain
        try:
            out = clip.encode_text(texts, ports)
        finally:
            clip.text.plain = False
        weights = torch.randn(out.shape, generator=torch.Generator().manual_seed(7))
        leaves = [leaf for _, leaf in ports.leaves()]
        grads = torch.autograd.grad((out * weights).sum(), leaves, allow_unused=True) if leaves else []
        results.append((out, grads))
    (plain_out, plain_grads), (fast_out, fast_grads) = results
    torch.testing.assert_close(fast_out, plain_out, rtol=1e-4, atol=1e-5)
    for (name, leaf), a, b in zip(ports.leaves(), fast_grads, plain_grads, strict=True):
        zero = torch.zeros_like(leaf)
        a, b = zero if a is None else a, zero if b is None else b
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4 * float(b.abs().max() + 1e-3), msg=str(name))


@pytest.mark.parametrize("position", ["end", "middle", "front"])
@pytest.mark.parametrize("lead", [(), (K,), (1, 1), (IMAGES, 1), (IMAGES, K)])
@pytest.mark.parametrize("depth", [1, 3, 4])
def test_fast_path_equals_plain_path(tiny_clip, position, lead, depth):
    both_paths(tiny_clip, texts_with_slots(tiny_clip, position), random_ports(lead, depth))


@pytest.mark.parametrize("bias_lead", [(), (K,), (IMAGES, 1), (IMAGES, K)])
@pytest.mark.parametrize("depth", [0, 2])
def test_fast_path_equals_plain_path_with_biases(tiny_clip, bias_lead, depth):
    both_paths(tiny_clip, texts_with_slots(tiny_clip, "end"), random_ports((), depth, bias_lead))


def test_fast_path_equals_plain_path_without_prompts(tiny_clip):
    both_paths(tiny_clip, tiny_clip.tokenize([f"a photo of a {name}." for name in CLASS_NAMES]), TowerPorts())
    both_paths(tiny_clip, tiny_clip.tokenize(["a photo of a cat."]), TowerPorts())
    both_paths(tiny_clip, tiny_clip.tokenize(["same words", "same words", "same words here"]), TowerPorts())


def test_chunks_with_recomputation_change_nothing(tiny_clip, monkeypatch):
    monkeypatch.setattr(tiny_clip.text, "max_rows", 7)
    for position, lead in (("end", ()), ("end", (IMAGES, 1)), ("middle", (K,))):
        texts = texts_with_slots(tiny_clip, position)
        assert len(texts.plan(1, 7).chunks) > 1
        both_paths(tiny_clip, texts, random_ports(lead, 3))


def test_crop_and_padding_content_change_nothing(tiny_clip):
    """Appendix B.1 of causal attention: nothing after the end of text can reach the feature."""
    texts = tiny_clip.tokenize(list(CLASS_NAMES))
    noisy = texts.ids.clone()
    after = torch.arange(noisy.shape[1]) > texts.eot[:, None]
    noisy[after] = 1234
    tiny_clip.text.plain = True
    try:
        whole = tiny_clip.encode_text(texts)
        padded = tiny_clip.encode_text(TokenBatch.plain(noisy))
        cropped = tiny_clip.encode_text(TokenBatch.plain(texts.ids[:, : int(texts.eot.max()) + 1]))
    finally:
        tiny_clip.text.plain = False
    torch.testing.assert_close(padded, whole)
    torch.testing.assert_close(cropped, whole, rtol=1e-5, atol=1e-6)


def test_shared_prefix_has_equal_hidden_states_in_all_classes(tiny_clip):
    """Appendix B.2: the rows of SOS and shared prompts are the same for every class in every block."""
    texts, ports = texts_with_slots(tiny_clip, "end"), random_ports((), 3)
    seen: list[torch.Tensor] = []
    hooks = [
        block.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
        for block in (b.ln_1 for b in tiny_clip.text.transformer.resblocks)
    ]
    tiny_clip.text.plain = True
    try:
        tiny_clip.encode_text(texts, ports)
    finally:
        tiny_clip.text.plain = False
        for hook in hooks:
            hook.remove()
    assert texts.shared_length == 1 + N
    for hidden in seen:
        torch.testing.assert_close(hidden[:, : 1 + N], hidden[:1, : 1 + N].expand(K, -1, -1))


def test_packing_computes_no_padding(tiny_clip):
    texts = texts_with_slots(tiny_clip, "end")
    plan = texts.plan(texts.shared_length, 10_000)
    suffix = int((texts.eot + 1 - texts.shared_length).sum())
    assert sum(len(chunk.row_class) for chunk in plan.chunks) == suffix
    assert sorted(torch.cat([c.classes for c in plan.chunks]).tolist()) == list(range(K))


def test_prompt_made_for_other_classes_says_so(tiny_clip):
    texts = texts_with_slots(tiny_clip, "end")
    with pytest.raises(ValueError, match="made for 3 classes, but 5 texts"):
        tiny_clip.encode_text(texts, TowerPorts({0: torch.zeros(3, N, D)}))
    with pytest.raises(ValueError, match="has 2 tokens, but the texts have places for 4"):
        tiny_clip.encode_text(texts, TowerPorts({0: torch.zeros(2, D)}))
    with pytest.raises(ValueError, match="blocks 0 to 3, got block 4"):
        tiny_clip.encode_text(texts, TowerPorts({0: torch.zeros(N, D), 4: torch.zeros(N, D)}))
    with pytest.raises(ValueError, match="must have width 24"):
        tiny_clip.encode_text(texts, TowerPorts({0: torch.zeros(N, 40)}))


@pytest.mark.parametrize("position", ["end", "middle", "front"])
@pytest.mark.parametrize("lead", [(), (K,), (IMAGES, 1)])
def test_fewer_tokens_at_deeper_blocks_replace_the_last_ones(tiny_clip, position, lead):
    texts, ports = texts_with_slots(tiny_clip, position), random_ports(lead, 3)
    fewer = TowerPorts(
        {i: v if i == 0 else v[..., -1 - i :, :].detach().requires_grad_() for i, v in ports.tokens.items()}
    )
    both_paths(tiny_clip, texts, fewer)
    # Tokens that are put back as they were change nothing: so the others flow on.
    kept = []
    tiny_clip.text.plain = True
    block = tiny_clip.text.transformer.blocks[1]
    handle = block.ln_1.register_forward_pre_hook(lambda module, given: kept.append(given[0]))
    try:
        plain = tiny_clip.encode_text(texts, TowerPorts({0: ports.tokens[0]}))
        rows = (
            kept[0]
            .unflatten(0, plain.shape[:2])
            .gather(2, texts.slots[None, :, -2:, None].expand(len(plain), -1, -1, D))
        )
        again = tiny_clip.encode_text(texts, TowerPorts({0: ports.tokens[0], 1: rows}))
    finally:
        handle.remove()
        tiny_clip.text.plain = False
    torch.testing.assert_close(again, plain)


def test_too_many_tokens_or_too_few_at_the_first_block_are_a_sentence(tiny_clip):
    texts, ports = texts_with_slots(tiny_clip, "end"), random_ports((), 2)
    with pytest.raises(ValueError, match="places for 4"):
        tiny_clip.encode_text(texts, TowerPorts({0: ports.tokens[0][:3]}))
    with pytest.raises(ValueError, match="places for 4"):
        tiny_clip.encode_text(texts, TowerPorts({0: ports.tokens[0], 1: torch.zeros(5, D)}))
