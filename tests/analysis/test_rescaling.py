"""λ, β and the ablated models, against the formulas written out head by head."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from cliptune import methods
from cliptune.analysis.rescaling import MODES, Ablations, ablating, ablations, prompt_parts
from cliptune.batch import Batch
from tests.analysis.test_alignment import learned
from tests.conftest import CLASS_NAMES


@pytest.fixture
def adapter(tiny_clip):
    return learned(tiny_clip, "ivlp", depth_text=2, depth_image=2, n_image=3)


@pytest.fixture
def batch(images):
    return Batch.of(images, torch.tensor([3, 0, 3]))


@torch.no_grad()
def image_heads(adapter, images):
    """The image tower written out block by block: (x in front of the block, q, k, v) of every block, and its answer."""
    clip, ports = adapter.clip, adapter.prompt().image
    tower, found = clip.image, []
    x = tower.embed_patches(clip.normalise(images))
    x = tower.ln_pre(torch.cat([x, ports.tokens[0].expand(len(x), -1, -1)], dim=1))
    for i, block in enumerate(tower.transformer.blocks):
        if i in ports.tokens and i:
            x = torch.cat([x[:, :17], ports.tokens[i].expand(len(x), -1, -1)], dim=1)
        parts = [p.unflatten(-1, (5, 8)) for p in block.attn.qkv(block.ln_1(x))]
        found.append(parts)
        x = yield (block, x, *parts)
    yield F.normalize(tower.ln_post(x[:, 0]) @ tower.proj, dim=-1)


def written_out(adapter, images, head):
    """Unit image features where `head(layer, h, q, (T, dh) k, v)` gives each real row's head output."""
    steps = image_heads(adapter, images)
    step, layer = next(steps), 0
    while isinstance(step, tuple):
        block, x, q, k, v = step
        out = torch.zeros_like(x).unflatten(-1, (5, 8))
        for n in range(len(x)):
            for t in range(x.shape[1]):
                for h in range(5):
                    plain = (k[n, :, h] @ q[n, t, h] / 8**0.5).softmax(0) @ v[n, :, h]
                    out[n, t, h] = head(layer, h, t, q[n, t, h], k[n, :, h], v[n, :, h]) if t < 17 else plain
        x = block.finish(x, out.flatten(-2), None, None)
        step, layer = steps.send(x), layer + 1
    return step


def split_of(q, k, v):
    """λ, Attn_X, β of one head and query, from two softmaxes."""
    scores = (k @ q / 8**0.5).double()
    real, prompt = scores[:17], scores[17:]
    z_real, z_prompt = real.exp().sum(), prompt.exp().sum()
    scale = z_real / (z_real + z_prompt)
    attended = real.softmax(0) @ v[:17].double()
    return scale, attended, (1 - scale) * (prompt.softmax(0) @ v[17:].double())


def test_parts_are_those_of_two_softmaxes(adapter, batch):
    found = prompt_parts(adapter, [batch[:2], batch[2:]], "image")
    scales, biases, shares = ([[[[], []] for _ in range(5)] for _ in range(3)] for _ in range(3))

    def head(layer, h, t, q, k, v):
        scale, real, bias = split_of(q, k, v)
        weight = adapter.clip.image.transformer.blocks[layer].attn.out_proj.weight[:, 8 * h : 8 * h + 8].double()
        out = scale * real + bias
        scales[layer][h][t > 0].append(scale)
        biases[layer][h][t > 0].append(bias)
        shares[layer][h][t > 0].append((weight @ bias).norm() / (weight @ out).norm())
        return out.float()

    written_out(adapter, batch.images, head)
    for layer in range(3):
        for h in range(5):
            for kind in (0, 1):
                scale, bias = torch.stack(scales[layer][h][kind]), torch.stack(biases[layer][h][kind])
                mean, energy = bias.mean(0), bias.square().sum(-1).mean()
                at = (layer, h, kind)
                close = lambda a, b: torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)
                close(found.scale[at], scale.mean())
                close(found.scale_std[at], scale.std(correction=0))
                close(found.share[at], torch.stack(shares[layer][h][kind]).mean())
                close(found.dependence[at], 1 - mean.square().sum() / energy)
                close(found.mean_bias[at], mean)
    assert found.n == 3
    assert "λ = " in found.sentence()
    assert "mean_bias" not in found.to_json()


@pytest.mark.parametrize("mode", MODES)
def test_ablated_image_tower_is_written_out(adapter, batch, mode):
    mean = prompt_parts(adapter, [batch], "image").mean_bias

    def head(layer, h, t, q, k, v):
        scale, real, bias = split_of(q, k, v)
        return {
            "full": scale * real + bias,
            "rescale_only": scale * real,
            "bias_only": real + bias,
            "mean_bias_only": real + mean[layer, h, int(t > 0)],
            "none": real,
        }[mode].float()

    with torch.no_grad(), ablating(adapter, "image", mode, mean):
        features = adapter(batch).image_features[:, 0]
    torch.testing.assert_close(features, written_out(adapter, batch.images, head), rtol=1e-3, atol=1e-4)


@torch.no_grad()
def test_full_is_the_live_adapter_and_blocks_outside_stay(adapter, batch):
    live = adapter(batch).logits
    for tower in ("image", "text"):
        with ablating(adapter, tower, "full"):
            torch.testing.assert_close(adapter(batch).logits, live, rtol=1e-4, atol=1e-4)
        with ablating(adapter, tower, "none", layers=[]):
            torch.testing.assert_close(adapter(batch).logits, live, rtol=1e-4, atol=1e-4)
        with ablating(adapter, tower, "none"):
            assert (adapter(batch).logits - live).abs().max() > 0.01


@torch.no_grad()
def test_a_prompt_that_nobody_sees_is_as_good_as_none(tiny_clip, batch):
    """`none` is the tower without prompt tokens, for images, where nothing but attention sees them."""
    adapter = learned(tiny_clip, "vpt", depth=3)
    with ablating(adapter, "image", "none"):
        hidden = adapter(batch).image_features
    bare = methods.build("zeroshot", tiny_clip, CLASS_NAMES).adapter
    torch.testing.assert_close(hidden, bare(batch).image_features, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_text_rows_before_the_prompt_are_left_alone(adapter, batch):
    """λ and β of the end of text, from weights and values that were recorded."""
    found = prompt_parts(adapter, [], "text")
    from cliptune.analysis.taps import tapped

    for layer in (0, 3):
        kept = []
        with tapped(adapter, "text", kept.append, layers=[layer]):
            adapter(batch)
        (at,) = kept
        slots = adapter.texts.slots
        for h in range(3):
            ends, rest = [], []
            for k, eot in enumerate(adapter.texts.eot.tolist()):
                for t in range(int(slots.max()) + 1, eot + 1):
                    (ends if t == eot else rest).append(1 - at.weights[k, h, t, slots[k]].sum())
            torch.testing.assert_close(found.scale[layer, h, 0].float(), torch.stack(ends).mean(), rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(found.scale[layer, h, 1].float(), torch.stack(rest).mean(), rtol=1e-4, atol=1e-5)
    assert found.n == len(CLASS_NAMES)


@pytest.mark.parametrize("method", ["ivlp", "cocoop", "maple+dpc"])
def test_accuracies_are_those_of_the_ablated_adapters(tiny_clip, batch, method):
    adapter = learned(tiny_clip, method).eval()
    towers = ("text",) if method == "cocoop" else ("text", "image")
    means = {tower: prompt_parts(adapter, [batch], tower).mean_bias for tower in towers}
    found = ablations(adapter, [batch[:2], batch[2:]], means, profile_images=2)
    assert found.remainder < 1e-3
    assert (found.n, found.profile_n) == (3, 2)
    right = lambda images: 100 * float((adapter(images).logits.argmax(-1) == images.labels).float().mean())
    with torch.no_grad():
        for mode in MODES:
            for tower in towers:
                with ablating(adapter, tower, mode, means[tower]):
                    assert found.accuracy[tower][mode] == pytest.approx(right(batch))
        for tower in towers:
            assert tuple(found.profile[tower]) == MODES[1:]
            for mode, curve in found.profile[tower].items():
                assert curve[0] == right(batch[:2])
                with ablating(adapter, tower, mode, means[tower], layers=[0, 1]):
                    assert curve[2] == right(batch[:2])
                with ablating(adapter, tower, mode, means[tower]):
                    assert curve[-1] == right(batch[:2])
    assert ("both" in found.accuracy) == (len(towers) == 2)
    assert "invisible, accuracy is" in found.sentence()


def test_a_sentence_says_where_there_is_nothing_to_explain():
    of = {"full": 50.0, "none": 40.0, "bias_only": 45.0, "mean_bias_only": 44.0, "rescale_only": 41.0}
    gain = Ablations({"text": of}, {}, 20, 20, 0.0).sentence()
    assert gain.endswith("re-scaling alone 41.0 % (20 images).")
    none = Ablations({"text": {**of, "none": 50.0}}, {}, 20, 20, 0.0).sentence()
    assert none.endswith("There is no gain here that one of them could explain.")


def test_what_has_no_prompt_says_so(tiny_clip, batch):
    biased = methods.build("bias_tuning", tiny_clip, CLASS_NAMES).adapter
    with pytest.raises(ValueError, match="no prompt tokens enter the image tower"):
        prompt_parts(biased, [batch])
    with pytest.raises(ValueError, match="no prompt tokens enter a tower"):
        ablations(biased, [batch], {})
    adapter = methods.build("vpt", tiny_clip, CLASS_NAMES).adapter
    with pytest.raises(ValueError, match="no image to look at"):
        prompt_parts(adapter, [])
    with pytest.raises(ValueError, match="mode must be one of full"), ablating(adapter, "image", "half"):
        pass
    with pytest.raises(ValueError, match="needs mean_bias"), ablating(adapter, "image", "mean_bias_only"):
        pass
