"""Low-rank changes of the attention's maps: equal to changed weights, on every path."""

from __future__ import annotations

import copy

import pytest
import torch

from cliptune.clip import Ports, TokenBatch, TowerPorts, compose, mix
from cliptune.clip.deltas import Delta
from cliptune.clip.folding import DeltaFold
from tests.clip.towers.test_text import both_paths, random_ports, texts_with_slots

R = 2


def random_deltas(layers: int, width: int, dropout: float = 0.0, seed: int = 5) -> TowerPorts:
    g = torch.Generator().manual_seed(seed)
    leaf = lambda *shape: (0.3 * torch.randn(*shape, generator=g)).requires_grad_()
    return TowerPorts(
        delta={(i, p): Delta(leaf(R, width), leaf(width, R), dropout) for i in range(layers) for p in "qkv"}
    )


def changed(clip, image: TowerPorts, text: TowerPorts):
    """A copy of CLIP whose weights hold the change, row block by row block."""
    other = copy.deepcopy(clip)
    for tower, ports in ((other.image, image), (other.text, text)):
        for (layer, projection), delta in ports.delta.items():
            start = "qkv".index(projection) * tower.width
            weight = tower.transformer.blocks[layer].attn.in_proj_weight
            weight.data[start : start + tower.width] += (delta.up @ delta.down).detach()
    return other


@pytest.fixture
def views() -> torch.Tensor:
    return torch.randn(3, 2, 3, 32, 32, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("plain", [False, True])
def test_deltas_equal_changed_weights(tiny_clip, views, plain):
    image, text = random_deltas(3, 40), random_deltas(4, 24)
    texts = texts_with_slots(tiny_clip, "end")
    expected = changed(tiny_clip, image, text)
    tiny_clip.text.plain = tiny_clip.image.plain = plain
    try:
        seen, read = tiny_clip.encode_image(views, image), tiny_clip.encode_text(texts, text)
    finally:
        tiny_clip.text.plain = tiny_clip.image.plain = False
    torch.testing.assert_close(seen, expected.encode_image(views), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(read, expected.encode_text(texts), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("depth", [0, 2])
@pytest.mark.parametrize("max_rows", [2048, 7])
def test_fast_text_path_equals_plain_path(tiny_clip, monkeypatch, depth, max_rows):
    monkeypatch.setattr(tiny_clip.text, "max_rows", max_rows)
    tokens = random_ports((), depth).tokens
    ports = TowerPorts(tokens, delta=random_deltas(4, 24).delta)
    both_paths(tiny_clip, texts_with_slots(tiny_clip, "end"), ports)


def test_image_rows_that_are_skipped_change_nothing(tiny_clip, views):
    ports = TowerPorts({i: torch.randn(2, 40) for i in range(2)}, delta=random_deltas(3, 40).delta)
    fast = tiny_clip.encode_image(views, ports)
    tiny_clip.image.plain = True
    try:
        torch.testing.assert_close(tiny_clip.encode_image(views, ports), fast, rtol=1e-4, atol=1e-4)
    finally:
        tiny_clip.image.plain = False


def test_the_shared_prefix_is_still_run_once(tiny_clip, monkeypatch):
    texts = tiny_clip.tokenize([f"a photo of a {name}." for name in ("cat", "red panda", "forest")])
    rows: list[int] = []
    block = tiny_clip.text.transformer.blocks[1]
    finish = block.finish
    monkeypatch.setattr(block, "finish", lambda x, *rest, **more: rows.append(x.shape[1]) or finish(x, *rest, **more))
    tiny_clip.encode_text(texts, random_deltas(4, 24))
    prefix = texts.shared_length
    assert prefix == 5
    assert sum(rows) == prefix + int((texts.eot + 1 - prefix).sum())


def test_recomputed_chunks_draw_the_same_dropout(tiny_clip, monkeypatch):
    """The gradient of chunks that are computed again belongs to the output that was returned."""
    texts = texts_with_slots(tiny_clip, "end")
    gradients = []
    for max_rows in (7, 7, 2048):
        monkeypatch.setattr(tiny_clip.text, "max_rows", max_rows)
        ports = random_deltas(4, 24, dropout=0.5)
        torch.manual_seed(0)
        out = tiny_clip.encode_text(texts, ports)
        if max_rows == 7:
            # Whatever is drawn in between must not matter.
            torch.manual_seed(len(gradients) + 1)
        gradients.append(torch.autograd.grad(out.square().sum(), ports.delta[0, "v"].up)[0])
    torch.testing.assert_close(gradients[0], gradients[1], rtol=0, atol=0)


def test_dropout_takes_entries_of_the_input_of_the_added_path_alone():
    delta = Delta(torch.randn(R, 6), torch.randn(6, R), dropout=0.5)
    x = torch.ones(2000, 6)
    torch.manual_seed(0)
    mean = delta(x).mean(dim=0)
    torch.testing.assert_close(mean, delta.product @ x[0], rtol=0.2, atol=0.2)


def test_folding_is_exact_and_undone_bit_for_bit(tiny_clip, views):
    clip = copy.deepcopy(tiny_clip)
    image, text = random_deltas(3, 40), random_deltas(4, 24)
    texts = clip.tokenize(["a cat", "a dog"])
    live = clip.encode_image(views, image), clip.encode_text(texts, text)
    with DeltaFold(clip, image, text):
        torch.testing.assert_close(clip.encode_image(views), live[0], rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(clip.encode_text(texts), live[1], rtol=1e-4, atol=1e-4)
    assert all(torch.equal(a, b) for a, b in zip(clip.parameters(), tiny_clip.parameters(), strict=True))


def test_mix_interpolates_products():
    a, b = (Ports(text=random_deltas(1, 24, seed=s)) for s in (1, 2))
    mixed = mix(a, b, 0.3).text.delta[0, "q"]
    expected = 0.3 * b.text.delta[0, "q"].product + 0.7 * a.text.delta[0, "q"].product
    torch.testing.assert_close(mixed.product, expected)
    with pytest.raises(ValueError, match=r"both write text.delta"):
        compose(a, b)


def test_deltas_name_their_mistakes(tiny_clip):
    with pytest.raises(ValueError, match="one of q, k, v, got 'o'"):
        TowerPorts(delta={(0, "o"): Delta(torch.zeros(1, 24), torch.zeros(24, 1))})
    for down, up in (((1, 24), (25, 1)), ((1, 25), (24, 1))):
        ports = TowerPorts(delta={(0, "q"): Delta(torch.zeros(*down), torch.zeros(*up))})
        with pytest.raises(ValueError, match="must have width 24"):
            tiny_clip.encode_text(TokenBatch.plain(tiny_clip.tokenize(["a"]).ids), ports)
