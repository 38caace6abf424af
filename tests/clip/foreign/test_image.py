"""Image towers of timm and open_clip against the libraries' own passes, without and with what enters at ports."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor

from cliptune.adapter import Adapter
from cliptune.clip.deltas import Delta
from cliptune.clip.foreign.image import ClosedTower, PatchTower
from cliptune.clip.ports import TowerPorts
from tests.clip.foreign.tiny import CONFIGS, PATCHED, tiny_pair

D, LAYERS, N = 40, 3, 4
EXACT = {"rtol": 1e-5, "atol": 1e-5}


def pictures(side: int, count: int = 3) -> Tensor:
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(3))


def first(found: Any) -> Tensor:
    return found[0] if isinstance(found, tuple) else found


@pytest.fixture(params=PATCHED)
def pair(request) -> tuple[Any, PatchTower]:
    model, clip = tiny_pair(request.param)
    return model.visual, clip.image


@pytest.mark.parametrize("kind", CONFIGS)
def test_without_prompts_it_is_the_librarys_own_pass(kind):
    model, clip = tiny_pair(kind)
    images = pictures(clip.image.resolution)
    expected = first(model.visual(images))
    assert isinstance(clip.image, ClosedTower if kind == "convnext" else PatchTower)
    torch.testing.assert_close(clip.encode_image(images[:, None])[:, 0], expected, **EXACT)
    torch.testing.assert_close(clip.encode_image(images[None])[0], expected, **EXACT)


def walked(visual: Any, images: Tensor, tokens: dict[int, Tensor], into_pool: bool) -> Tensor:
    """The library's own blocks, with prompts between class token and patches: no order of ours, and rotary positions
    told by `num_prefix_tokens` that there are more rows in front.
    """
    visual = copy.deepcopy(visual)
    trunk = getattr(visual, "trunk", None)
    if trunk is None:
        x = visual.conv1(images).flatten(2).mT
        x = torch.cat([visual.class_embedding.expand(len(x), 1, -1), x], dim=1) + visual.positional_embedding
        norm, blocks, prefix, rope = visual.ln_pre, visual.transformer.resblocks, 1, None
    else:
        x, rope = trunk.patch_embed(images), None
        x = trunk._pos_embed(x)
        x, rope = x if isinstance(x, tuple) else (x, None)
        norm, blocks, prefix = trunk.norm_pre, trunk.blocks, trunk.num_prefix_tokens
    for block in blocks:
        if hasattr(block.attn, "num_prefix_tokens"):
            block.attn.num_prefix_tokens += N
    x = torch.cat([x[:, :prefix], tokens[0].expand(len(x), -1, -1), x[:, prefix:]], dim=1)
    x = norm(x)
    for i, block in enumerate(blocks):
        if i and i in tokens:
            x = torch.cat([x[:, :prefix], tokens[i].expand(len(x), -1, -1), x[:, prefix + N :]], dim=1)
        x = block(x) if rope is None else block(x, rope=rope[i] if rope.ndim > 2 else rope)
    if not into_pool:
        x = torch.cat([x[:, :prefix], x[:, prefix + N :]], dim=1)
    if trunk is None:
        return visual._pool(x)[0] @ visual.proj
    return visual.head(trunk.forward_head(trunk.norm(x)))


@pytest.mark.parametrize("layers", [(0,), (0, 1, 2), (0, 2)])
def test_prompts_are_rows_of_the_librarys_own_blocks(pair, layers):
    visual, tower = pair
    draw = torch.Generator().manual_seed(1)
    tokens = {layer: torch.randn(N, D, generator=draw) for layer in layers}
    images = pictures(32)
    found = tower(images[:, None], TowerPorts(tokens))[:, 0]
    torch.testing.assert_close(found, walked(visual, images, tokens, into_pool=tower.gathers), **EXACT)
    assert (found - tower(images[:, None])[:, 0]).abs().max() > 1e-3


@pytest.mark.parametrize("kind", ["siglip", "pe", "coca"])
def test_prompts_can_be_hidden_from_a_pooling_that_attends(kind):
    model, clip = tiny_pair(kind)
    tower, images, tokens = copy.deepcopy(clip.image), pictures(32), {0: torch.randn(N, D)}
    assert tower.gathers
    seen = tower(images[:, None], TowerPorts(tokens))[:, 0]
    tower.hide_prompts = True
    hidden = tower(images[:, None], TowerPorts(tokens))[:, 0]
    torch.testing.assert_close(hidden, walked(model.visual, images, tokens, into_pool=False), **EXACT)
    assert (seen - hidden).abs().max() > 1e-3


def test_prompts_of_each_view_and_image(pair):
    _, tower = pair
    images, tokens = pictures(32, 6).view(3, 2, 3, 32, 32), torch.randn(3, 1, N, D)
    together = tower(images, TowerPorts({0: tokens}))
    for b in range(3):
        for v in range(2):
            alone = tower(images[b : b + 1, v : v + 1], TowerPorts({0: tokens[b, 0]}))
            torch.testing.assert_close(together[b, v], alone[0, 0], **EXACT)


def test_a_bias_is_added_to_the_residual_stream(pair):
    visual, tower = pair
    images, bias = pictures(32), torch.randn(D)
    for site in ("attn_out", "mlp_out"):
        changed = copy.deepcopy(visual)
        trunk = getattr(changed, "trunk", changed)
        block = (trunk.blocks if hasattr(trunk, "blocks") else trunk.transformer.resblocks)[1]
        # Added behind everything that the library does in that branch.
        if site == "mlp_out":
            block.register_forward_hook(lambda module, args, out: out + bias)
        else:
            behind_attention(block, bias)
        expected = first(changed(images))
        found = tower(images[:, None], TowerPorts(bias={(1, site, "all"): bias}))[:, 0]
        torch.testing.assert_close(found, expected, **EXACT)
    groups = {
        (1, "mlp_out", name): bias for name in (("cls", "patch", "prompt") if tower.prefix else ("patch", "prompt"))
    }
    whole = tower(images[:, None], TowerPorts(bias={(1, "mlp_out", "all"): bias}))
    torch.testing.assert_close(tower(images[:, None], TowerPorts(bias=groups)), whole, **EXACT)


def behind_attention(block: Any, bias: Tensor) -> None:
    """x + branch₁ + bias, then + branch₂(of that): the bias enters where the second branch reads, and stays."""
    first_of_mlp = "norm2" if hasattr(block, "norm2") else "ln_2"
    if type(block).__name__ == "EvaBlockPostNorm":
        block.mlp.register_forward_pre_hook(lambda module, args: (args[0] + bias,))
    else:
        getattr(block, first_of_mlp).register_forward_pre_hook(lambda module, args: (args[0] + bias,))
    block.register_forward_hook(lambda module, args, out: out + bias)


def test_a_delta_changes_the_frozen_map(pair):
    visual, tower = pair
    images = pictures(32)
    deltas = {(1, name): Delta(torch.randn(2, D) * 0.2, torch.randn(D, 2) * 0.2) for name in "qkv"}
    changed = copy.deepcopy(visual)
    trunk = getattr(changed, "trunk", changed)
    attn = (trunk.blocks if hasattr(trunk, "blocks") else trunk.transformer.resblocks)[1].attn
    products = [deltas[1, name].product for name in "qkv"]
    if getattr(attn, "in_proj_weight", None) is not None:
        attn.in_proj_weight.data += torch.cat(products)
    elif getattr(attn, "qkv", None) is not None:
        attn.qkv.weight.data += torch.cat(products)
    else:
        for name, product in zip("qkv", products, strict=True):
            getattr(attn, f"{name}_proj").weight.data += product
    found = tower(images[:, None], TowerPorts(delta=deltas))[:, 0]
    torch.testing.assert_close(found, first(changed(images)), **EXACT)


def test_recorded_attention_sums_to_one_and_changes_nothing(pair):
    _, tower = pair
    images, kept = pictures(32), []
    before = tower(images[:, None], TowerPorts({0: torch.ones(N, D)}))
    tower.transformer.blocks[1].attn.tap = lambda weights, values: kept.append(weights)
    try:
        torch.testing.assert_close(tower(images[:, None], TowerPorts({0: torch.ones(N, D)})), before, **EXACT)
    finally:
        tower.transformer.blocks[1].attn.tap = None
    rows = tower.prefix + tower.patches + N
    assert kept[0].shape == (3, tower.transformer.blocks[1].attn.module.num_heads, rows, rows)
    torch.testing.assert_close(kept[0].sum(dim=-1), torch.ones(kept[0].shape[:-1]))


def test_a_copy_of_a_tower_computes_with_its_own_weights(pair):
    _, tower = pair
    images, other = pictures(32), copy.deepcopy(tower)
    for value in other.parameters():
        value.data.zero_()
    assert tower(images[:, None]).abs().max() > 0
    assert other(images[:, None]).abs().max() == 0


def test_bfloat16_is_near(pair):
    _, tower = pair
    images, half = pictures(32), copy.deepcopy(tower).to(torch.bfloat16)
    expected = tower(images[:, None], TowerPorts({0: torch.ones(N, D)}))
    found = half(images[:, None], TowerPorts({0: torch.ones(N, D)})).float()
    assert torch.nn.functional.cosine_similarity(found, expected, dim=-1).min() > 0.99


def test_what_has_no_place_says_so():
    _, clip = tiny_pair("convnext")
    images = torch.rand(2, 1, 3, 64, 64)
    with pytest.raises(ValueError, match="ConvNeXt of timm: this image tower takes no prompt tokens, biases or deltas"):
        clip.encode_image(images, TowerPorts({0: torch.randn(2, 36)}))
    with pytest.raises(ValueError, match="has no class token, and a bias for one was given"):
        tiny_pair("siglip")[1].encode_image(
            torch.rand(1, 1, 3, 32, 32), TowerPorts(bias={(0, "mlp_out", "cls"): torch.ones(D)})
        )
    with pytest.raises(ValueError, match="views must have shape .*32, 32"):
        tiny_pair("siglip")[1].encode_image(torch.rand(1, 1, 3, 40, 40))


def test_every_value_of_the_towers_is_frozen_and_stays_in_evaluation():
    for kind in CONFIGS:
        clip = tiny_pair(kind)[1].train()
        assert not clip.training
        assert not any(part.training for part in clip.modules())
        assert not any(value.requires_grad for value in clip.parameters())


def test_chunks_of_views_change_nothing():
    from cliptune import methods
    from cliptune.batch import Batch

    clip = tiny_pair("eva")[1]
    adapter: Adapter = methods.build("vpt", clip, ["cat", "dog"], n_ctx=3).adapter
    batch = Batch.of(torch.rand(5, 3, 32, 32), torch.tensor([0, 1, 0, 1, 1]))
    whole = adapter(batch).logits
    adapter.chunk = 2
    torch.testing.assert_close(adapter(batch).logits, whole)
