"""Similarity of prompts and patches, written out with loops."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from cliptune import methods
from cliptune.analysis.patches import patch_similarity
from cliptune.batch import Batch
from tests.analysis.test_alignment import learned
from tests.conftest import CLASS_NAMES


@pytest.fixture
def adapter(tiny_clip):
    return learned(tiny_clip, "ivlp", depth_text=2, depth_image=2, n_image=3)


@pytest.fixture
def batch(images):
    masks = torch.zeros(3, 1, 32, 32)
    masks[:, :, 4:20, 8:30] = 1.0
    return Batch(images, torch.tensor([3, 0, 3]), torch.arange(3), masks)


@torch.no_grad()
def cosines_of(adapter, images):
    """block → (images, prompts, patches), block by block."""
    clip, ports = adapter.clip, adapter.prompt().image
    tower, found = clip.image, {}
    x = tower.embed_patches(clip.normalise(images))
    x = tower.ln_pre(torch.cat([x, ports.tokens[0].expand(len(x), -1, -1)], dim=1))
    for i, block in enumerate(tower.transformer.blocks):
        if i in ports.tokens and i:
            x = torch.cat([x[:, :17], ports.tokens[i].expand(len(x), -1, -1)], dim=1)
        if i in ports.tokens:
            rows, prompts = block.ln_1(x).double(), range(17, 20)
            found[i] = torch.zeros(len(x), 3, 16).double()
            for n in range(len(x)):
                for k in prompts:
                    for j in range(16):
                        found[i][n, k - 17, j] = F.cosine_similarity(rows[n, k], rows[n, 1 + j], dim=0)
        q, k, v = (part.unflatten(-1, (5, 8)).transpose(1, 2) for part in block.attn.qkv(block.ln_1(x)))
        out = (q @ k.mT / 8**0.5).softmax(-1) @ v
        x = block.finish(x, out.transpose(1, 2).flatten(2), None, None)
    return found


def test_similarities_are_cosines_behind_the_norm(adapter, batch):
    found = patch_similarity(adapter, [batch[:2], batch[2:]], nearest=5)
    truth = cosines_of(adapter, batch.images)
    assert set(found.layers) == {0, 1}
    assert found.n == 3
    for layer, cosines in truth.items():
        own = found.layers[layer]
        torch.testing.assert_close(own.mean, cosines.mean(0).view(3, 4, 4), rtol=1e-4, atol=1e-5)
        for k in range(3):
            differences = []
            for n in range(3):
                sums = {"front": [0.0, 0.0], "back": [0.0, 0.0]}
                for j in range(16):
                    y, x = 8 * (j // 4), 8 * (j % 4)
                    share = float(batch.masks[n, 0, y : y + 8, x : x + 8].mean())
                    for name, weight in (("front", share), ("back", 1 - share)):
                        sums[name][0] += weight * float(cosines[n, k, j])
                        sums[name][1] += weight
                differences.append(sums["back"][0] / sums["back"][1] - sums["front"][0] / sums["front"][1])
            assert float(own.difference[k]) == pytest.approx(sum(differences) / 3, abs=1e-5)
            assert float(own.spread[k]) == pytest.approx(float(torch.tensor(differences).std(correction=0)), abs=1e-5)
            best = cosines[:, k].flatten().topk(5)
            places = [(near.image, 4 * near.row + near.column) for near in own.nearest[k]]
            assert places == [divmod(place, 16) for place in best.indices.tolist()]
            assert [near.similarity for near in own.nearest[k]] == pytest.approx(best.values.tolist(), abs=1e-5)
    assert "look more like background" in found.sentence()
    blocks = adapter.clip.image.transformer.blocks
    assert not any(block.ln_1._forward_hooks for block in blocks)


def test_images_without_an_object_are_passed_over(adapter, batch):
    masks = batch.masks.clone()
    masks[1] = 0
    found = patch_similarity(adapter, [Batch(batch.images, batch.labels, batch.index, masks)])
    both = patch_similarity(adapter, [batch[torch.tensor([0, 2])]])
    torch.testing.assert_close(found.layers[1].difference, both.layers[1].difference)
    torch.testing.assert_close(found.layers[1].spread, both.layers[1].spread)


def test_without_masks_there_is_no_difference(adapter, images):
    found = patch_similarity(adapter, [Batch.of(images)])
    assert all(layer.difference is None for layer in found.layers.values())
    assert "without masks" in found.sentence()


def test_what_has_no_image_prompts_says_so(adapter, tiny_clip, batch):
    with pytest.raises(ValueError, match="no learned tokens enter the image tower"):
        patch_similarity(methods.build("coop", tiny_clip, CLASS_NAMES).adapter, [batch])
    with pytest.raises(ValueError, match="no image to look at"):
        patch_similarity(adapter, [])
