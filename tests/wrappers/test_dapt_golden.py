"""DAPT over MaPLe against values that its released code computed, with its class texts cut as it cuts them."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import torch

from cliptune import methods
from cliptune.batch import Batch
from cliptune.methods.maple import published_name
from cliptune.objectives.decoupled import background_alignment, pull_push
from cliptune.saliency import grad_cam, saliency
from cliptune.training.optim import build_optimiser
from cliptune.wrappers.dapt import use_masks
from tests.golden import weights
from tests.golden.reference import CLIP_MEAN, CLIP_STD, TOLERANCE, assert_equals, golden, reference_clip

META, TENSORS = golden("dapt")
SLICE = 25  # of the 32 background words, the release takes the last 25 as background and the first 7 as classes


def assert_near(actual: torch.Tensor, key: str) -> None:
    expected = TENSORS[key]
    assert actual.shape == expected.shape
    assert (actual - expected).abs().max() <= TOLERANCE * expected.abs().max(), key


def recipe_and_batch():
    recipe = methods.build(
        "maple+dapt",
        reference_clip("vit_small"),
        META["classes"],
        n_ctx=META["n_ctx"],
        depth=META["depth"],
        words=META["ctx_init"],
        dapt_food=True,
        dapt_per_batch=True,
    )
    given = {"ctx": TENSORS["ctx"]} | {
        name: weights.draw(drawn["shape"], drawn["std"], drawn["seed"]) for name, drawn in META["drawn_params"].items()
    }
    adapter = recipe.adapter
    names = {name: published_name(name).removeprefix("prompt_learner.") for name in adapter.learnables()}
    adapter.load_learnables({name: given[theirs] for name, theirs in names.items()})
    mean, std = (torch.tensor(v)[:, None, None] for v in (CLIP_MEAN, CLIP_STD))
    return recipe, Batch.of(TENSORS["images"] * std + mean, TENSORS["labels"])


def adapter_and_batch():
    recipe, batch = recipe_and_batch()
    return recipe.adapter, batch


@cache
def terms() -> tuple:
    """The four terms from the adapter's own features, and the adapter."""
    adapter, batch = adapter_and_batch()
    use_masks(adapter, lambda *given: TENSORS["mask"].float())
    out = adapter(batch, needs=frozenset({"decoupled"}))
    parts = out.extras["decoupled"]
    fore = parts.image_features("foreground")
    back = parts.image_features("background", gradient=True)
    texts = torch.cat([out.text_features[0], parts.background_text_features(back[:, None])[0]])
    image, scale = out.image_features[:, 0], adapter.clip.scale
    losses = {
        "ce": torch.nn.functional.cross_entropy(scale * image @ texts[:-SLICE].T, batch.labels),
        "vd": pull_push(image, fore, back),
        "fg": torch.nn.functional.cross_entropy(scale * fore @ texts[:-SLICE].T, batch.labels),
        "bg": background_alignment(scale * back @ texts[-SLICE:].T),
    }
    features = {"img_feat": image, "fg_feat": fore, "bg_feat": back, "text_feat": texts}
    return adapter, losses, features


@pytest.mark.parametrize("name", ["img_feat", "fg_feat", "bg_feat", "text_feat"])
def test_features_equal_released_code(name):
    actual, expected = terms()[2][name], TENSORS[name]
    expected = torch.nn.functional.normalize(expected, dim=-1)
    assert (actual - expected).abs().max() <= TOLERANCE * expected.abs().max()


@pytest.mark.parametrize("term", ["ce", "vd", "fg", "bg"])
def test_terms_and_their_gradients_equal_released_code(term):
    adapter, losses, _ = terms()
    assert_near(losses[term].detach(), f"term.{term}")
    names = {
        name: published_name(name).removeprefix("prompt_learner.")
        for name in adapter.trainable()
        if ".maps." not in name
    }
    learning = [adapter.trainable()[name] for name in names]
    grads = torch.autograd.grad(losses[term], learning, retain_graph=True)
    for theirs, grad in zip(names.values(), grads, strict=True):
        assert_near(grad, f"term.{term}.grad.{theirs}")


def test_gradients_reach_where_they_do_in_released_code():
    """The foreground term moves no map, because its image side is a constant."""
    adapter, losses, _ = terms()
    reach = META["gradient_reach (norm of d term / d parameter; null = not connected)"]
    for term, expected in reach.items():
        named = adapter.trainable()
        grads = torch.autograd.grad(losses[term], list(named.values()), retain_graph=True, allow_unused=True)
        for name, grad in zip(named, grads, strict=True):
            theirs = published_name(name).removeprefix("prompt_learner.")
            if expected[theirs] is None:
                assert grad is None or not grad.any()
            else:
                assert grad.norm().item() == pytest.approx(expected[theirs], rel=1e-3)


class Sliced:
    """A batch with the release's slices of its 39 texts: the last 25 are background, the others classes."""

    def __init__(self, out: Any, batch: Batch, scale: Any) -> None:
        self.parts, self.labels, self.scale = out.extras["decoupled"], batch.labels, scale
        self.image_features, self.own = self.parts.image_features, self.parts.own
        words = self.parts.background_text_features(out.image_features)
        self.texts = torch.cat([out.text_features[0], words[0]])
        self.logits = scale * out.image_features[:, 0] @ self.texts[:-SLICE].T

    def foreground_logits(self) -> torch.Tensor:
        return self.scale * self.image_features("foreground") @ self.texts[:-SLICE].T

    def background_similarity(self) -> torch.Tensor:
        return self.scale * self.image_features("background", gradient=True) @ self.texts[-SLICE:].T


@pytest.mark.parametrize("epoch", [0, 6, 7])
def test_totals_and_a_step_on_them_equal_released_code(epoch):
    """Of the recipe's own objective and optimiser: phases, weights, gradients of the maps, momentum and decay."""
    recipe, batch = recipe_and_batch()
    adapter, stage = recipe.adapter.train(), recipe.stages[0]
    use_masks(adapter, lambda *given: TENSORS["mask"].float())

    def sliced():
        out = adapter(batch, needs=stage.objective.needs)
        parts = Sliced(out, batch, adapter.clip.scale)
        return replace(out, logits=parts.logits, extras={"decoupled": parts})

    total, _ = stage.objective(sliced(), batch, epoch / 10)
    assert_near(total.detach(), f"epoch{epoch}.total")
    if epoch == 6:  # the release stored the total alone
        return
    optimiser = build_optimiser(stage.optimiser, adapter.trainable().values())
    total.backward()
    expected = TENSORS | golden("dapt_step")[1]
    for name, learning in adapter.trainable().items():
        theirs = published_name(name).removeprefix("prompt_learner.")
        assert_equals(learning.grad, expected, f"epoch{epoch}.grad.{theirs}")
    optimiser.step()
    for name, learning in adapter.trainable().items():
        theirs = f"after_step_epoch{epoch}." + published_name(name).removeprefix("prompt_learner.")
        if theirs in expected:
            assert_equals(learning.detach(), expected, theirs)
    adapter.eval()
    with torch.no_grad():
        # The maps' steps, which are not stored, are in these answers.
        assert_equals(sliced().logits, expected, f"after_step_epoch{epoch}.eval_logits")


@pytest.mark.parametrize("chosen", [[2], [2, 4], [0, 1, 2, 3, 4]])
def test_grad_cam_equals_released_code(chosen):
    adapter, batch = adapter_and_batch()
    count, some = len(chosen), Batch(batch.images[chosen], batch.labels[chosen], batch.index[chosen])
    seen = {}

    def keep(batch, score, rows):
        seen.update(score=score, rows=rows)
        return torch.ones(count, 1, 64, 64)

    keep.needs_rows = True
    use_masks(adapter, keep)
    out = adapter(some, needs=frozenset({"decoupled"}))
    assert out.extras["decoupled"].masks.shape == (count, 1, 64, 64)
    patches = adapter.clip.image.patches
    # The release averages over images and 39 texts; a constant factor that the normalisation takes out again.
    cam = grad_cam(seen["rows"], seen["score"], patches) / (count * 39)
    if count == 5:
        assert_near(cam, "cam/batch5.grid")
    assert_near(saliency(cam, 64, per_batch=True)[:, :, ::4, ::4], f"cam/batch{count}.saliency")
