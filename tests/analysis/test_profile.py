"""The three estimators and their means over a data set, against what their words say."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from cliptune import methods
from cliptune.analysis.alignment import token_contributions, token_effects
from cliptune.analysis.profile import contribution_profile
from cliptune.batch import Batch
from tests.analysis.test_alignment import learned
from tests.conftest import CLASS_NAMES


@pytest.fixture
def adapter(tiny_clip):
    return learned(tiny_clip, "ivlp", depth_text=2, depth_image=2)


@pytest.fixture
def batch(images):
    return Batch.of(images, torch.tensor([3, 0, 3]))


def image_score(adapter, batch, *, without=None, shift=None, at=0):
    """s · cos(image, own class) with a column hidden everywhere, or the rows in front of block `at` shifted."""
    clip, ports = adapter.clip, adapter.prompt().image
    tower, text = clip.image, adapter(batch).text_features[0, batch.labels]
    x = tower.embed_patches(clip.normalise(batch.images))
    x = tower.ln_pre(torch.cat([x, ports.tokens[0].expand(len(x), -1, -1)], dim=1))
    for i, block in enumerate(tower.transformer.blocks):
        if i in ports.tokens and i:
            x = torch.cat([x[:, :17], ports.tokens[i].expand(len(x), -1, -1)], dim=1)
        if i == at and shift is not None:
            x = x + shift(x)
        q, k, v = (part.unflatten(-1, (5, 8)).transpose(1, 2) for part in block.attn.qkv(block.ln_1(x)))
        scores = q @ k.mT / 8**0.5
        if without is not None:
            scores[..., without] = float("-inf")
        x = block.finish(x, (scores.softmax(-1) @ v).transpose(1, 2).flatten(2), None, None)
    features = F.normalize(tower.ln_post(x[:, 0]) @ tower.proj, dim=-1)
    return clip.scale * (features * text).sum(-1)


@torch.no_grad()
def test_leaving_a_token_out_is_a_softmax_without_it(adapter, batch):
    found = token_effects(adapter, batch, "image", "leave_one_out")
    whole = image_score(adapter, batch)
    torch.testing.assert_close(found.score.float(), whole, rtol=1e-4, atol=1e-3)
    for token in (0, 1, 7, 16, 17, 18):
        expected = whole - image_score(adapter, batch, without=token)
        torch.testing.assert_close(found.tokens[:, token].float(), expected, rtol=1e-3, atol=2e-3)


@pytest.mark.parametrize("layer", [0, 1, 2])
def test_gradient_times_input_is_a_derivative(tiny_clip, batch, layer):
    """c_j = d score / dε for a token that is scaled by 1 + ε, in double precision and by central differences."""
    import copy

    adapter = learned(copy.deepcopy(tiny_clip).double(), "ivlp", depth_text=2, depth_image=2).double()
    wide = Batch.of(batch.images.double(), batch.labels)
    found = token_effects(adapter, wide, "image", "gradient", layer=layer)
    with torch.no_grad():
        for token in (0, 5, 17):

            def shift(x, sign, token=token):
                moved = torch.zeros_like(x)
                moved[:, token] = sign * 1e-4 * x[:, token]
                return moved

            up, down = (image_score(adapter, wide, shift=lambda x, s=s: shift(x, s), at=layer) for s in (1, -1))
            torch.testing.assert_close(found.tokens[:, token], (up - down) / 2e-4, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("method", ["coop", "cocoop", "ivlp", "bias_tuning", "clip_lora"])
def test_text_tokens_are_those_of_the_own_class(tiny_clip, batch, method):
    """Hidden or scaled tokens of one class's text, the score taken from the adapter's own answer."""
    from cliptune.analysis.taps import tapped

    adapter = learned(tiny_clip, method).eval()
    left_out = token_effects(adapter, batch, "text", "leave_one_out")
    gradient = token_effects(adapter, batch, "text", "gradient", layer=1)
    assert gradient.tokens.isfinite().all()
    for found in (left_out, gradient):
        assert torch.all(found.tokens[found.layout.mask("pad").expand(3, -1)] == 0)
        assert not adapter.clip.text.plain
    each = torch.arange(3)
    for token in (0, 2, 4):

        def hide(at, token=token):
            scores = at.weights.log()
            scores[..., token] = float("-inf")
            return scores.softmax(-1).nan_to_num(0.0) @ at.values

        with torch.no_grad():
            image = adapter(batch).image_features
            own = adapter.prompt().text_given(image)
            with tapped(adapter, "text", hide):
                text = F.normalize(adapter.clip.encode_text(adapter.texts, own), dim=-1)
            score = adapter.clip.scale * (image[:, 0] * text.expand(3, -1, -1)[each, batch.labels]).sum(-1)
        expected = left_out.score.float() - score
        torch.testing.assert_close(left_out.tokens[:, token].float(), expected, rtol=1e-3, atol=2e-3)


@pytest.mark.parametrize("tower", ["image", "text"])
def test_profiles_are_means_over_images_and_over_the_papers_sample(adapter, batch, tower):
    with torch.no_grad(), adapter.evaluating():
        out = adapter(batch, needs=frozenset({"reference"}))
    # Labels of which the adapter knows all, the frozen CLIP not all.
    labels = out.logits.argmax(-1)
    given = Batch.of(batch.images, labels)
    gained = [i for i in range(3) if out.reference.logits[i].argmax() != labels[i]]
    found = contribution_profile(adapter, [given[:2], given[2:]], tower)
    one = token_contributions(adapter, given, tower)
    length = len(found.places)
    rows = (one.tokens / one.tokens.abs().sum(-1, keepdim=True))[:, :length]
    torch.testing.assert_close(found.everything.mean, rows.mean(0), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(found.everything.spread, rows.std(0, correction=0), rtol=1e-3, atol=1e-5)
    assert (found.everything.n, found.gained.n) == (3, len(gained))
    if gained:
        torch.testing.assert_close(found.gained.mean, rows[gained].mean(0), rtol=1e-4, atol=1e-6)
    else:
        assert found.gained.mean.isnan().all()
    assert sum(found.parts.values()) == pytest.approx(float(one.score.mean()), abs=1e-3)
    assert found.parts["mlp"] == pytest.approx(float(one.mlp.mean()), rel=1e-4)
    assert sum(found.shares.values()) == pytest.approx(100, abs=0.1)
    assert sum(found.groups.values()) == pytest.approx(float(rows.sum(-1).mean()), abs=1e-5)
    assert "MLPs" in found.sentence()
    assert found.places[-1] == {"image": "prompt", "text": "eot"}[tower]


def test_other_estimators_name_tokens_alone(adapter, batch):
    found = contribution_profile(adapter, [batch], "text", "gradient")
    assert not found.parts
    assert "estimator: gradient" in found.sentence()
    margin = contribution_profile(adapter, [batch], margin=True)
    assert "margin" in margin.sentence()


def test_what_cannot_be_asked_says_so(adapter, batch, tiny_clip):
    with pytest.raises(ValueError, match="estimator must be one of direct"):
        token_effects(adapter, batch, "image", "shapley")
    with pytest.raises(ValueError, match="layer must be from 0 to 2"):
        token_effects(adapter, batch, "image", "gradient", layer=3)
    with pytest.raises(ValueError, match="no image to look at"):
        contribution_profile(methods.build("coop", tiny_clip, CLASS_NAMES).adapter, [])
