"""Every method on small versions of every kind of tower: it trains and lowers its loss, or says why it has no place.

A selection runs with all tests; with CLIPTUNE_ALL_BACKBONES=1 (nightly) every method does.
"""

from __future__ import annotations

import copy
import os
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import torch

from cliptune import methods
from cliptune.analysis import record
from cliptune.batch import Batch
from cliptune.clip import CLIP
from cliptune.clip.foreign.tokenizer import library_tokenizer
from cliptune.registry import checks
from tests.clip.foreign.tiny import KINDS, tiny_pair
from tests.clip.foreign.vocabularies import sentencepiece

SELECTED = ("coop", "maple", "bias_tuning", "clip_lora", "ar", "prolip")
METHODS = methods.names() if os.environ.get("CLIPTUNE_ALL_BACKBONES") else SELECTED
# Those that enter blocks of the image tower, which a ConvNeXt does not have.
NEED_BLOCKS = {"vpt", "ivlp", "maple", "mmlop", "promptsrc", "promptkd", "bias_tuning", "clip_lora"}
# Those that enter at ports which towers of other libraries do not have, or some of them do not.
NOWHERE = {"two_stage": KINDS, "mmrl": KINDS, "mmrl_plus_plus": KINDS, "prolip": ("siglip",)}
pytestmark = pytest.mark.filterwarnings("ignore:.*have no descriptions")


@cache
def tiny(kind: str) -> CLIP:
    clip = copy.deepcopy(tiny_pair(kind)[1])
    if clip.tokenizer is None:
        with TemporaryDirectory() as folder:
            text = {"hf_tokenizer_name": "tiny", "tokenizer_kwargs": {"clean": "canonicalize"}}
            clip.tokenizer = library_tokenizer(text, sentencepiece(Path(folder)), "tiny", True)
    return clip


def batch_for(clip: CLIP) -> Batch:
    side = clip.image.resolution
    images = torch.rand(3, 3, side, side, generator=torch.Generator().manual_seed(5))
    return Batch.of(images, torch.tensor([0, 3, 1]))


def refused(method: str, kind: str) -> bool:
    return (kind == "convnext" and method in NEED_BLOCKS) or kind in NOWHERE.get(method, ())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("method", METHODS)
def test_it_keeps_the_common_rules_or_says_why_not(method, kind):
    clip = tiny(kind)
    if refused(method, kind):
        with pytest.raises(ValueError, match="of timm.*(Use a ViT backbone)"):
            methods.build(method, clip, checks.CLASSES)
        return
    findings = [finding for finding in checks.run_checks(method, clip) if finding.name != "learnables"]
    assert len(findings) == 5
    assert not [finding.sentence for finding in findings if not finding.holds]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("method", METHODS)
def test_training_lowers_the_loss(method, kind):
    clip = tiny(kind)
    if refused(method, kind):
        return
    recipe, batch = methods.build(method, clip, checks.CLASSES, seed=1), batch_for(clip)
    for stage in recipe.stages:
        if stage.optimiser is None:
            checks.observed(recipe.adapter, batch, stage)
            continue
        loss = lambda stage=stage: stage.objective(recipe.adapter(batch, needs=stage.objective.needs), batch, 0.0)[0]
        before = loss().item()
        learnables = list(recipe.adapter.trainable().values())
        slopes = torch.autograd.grad(loss(), learnables, allow_unused=True)
        steps = [(value, slope) for value, slope in zip(learnables, slopes, strict=True) if slope is not None]
        # Scores of some towers are thousands of times flatter than those of others: a fixed rate would be lost in
        # rounding or leave the valley, so the way down is walked in steps that take from a hundredth off to less.
        rate = 1e-2 * before / sum(float(slope.square().sum()) for _, slope in steps)
        walked = [_loss_after(loss, steps, rate * shorter) for shorter in (1, 1e-1, 1e-2, 1e-3, 1e-4)]
        assert min(walked) < before


def _loss_after(loss, steps, rate: float) -> float:
    kept = [value.detach().clone() for value, _ in steps]
    with torch.no_grad():
        for value, slope in steps:
            value -= rate * slope
        found = loss().item()
        for (value, _), old in zip(steps, kept, strict=True):
            value.copy_(old)
    return found


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "convnext"])
def test_attention_is_recorded_by_the_names_of_tokens(kind):
    clip = tiny(kind)
    adapter = methods.build("maple", clip, checks.CLASSES).adapter.eval()
    batch = batch_for(clip)
    with torch.no_grad(), record(adapter, image=[1], text=[1]) as recording:
        adapter(batch)
    image = recording.attention["image", 1]
    names = ("patch", "prompt") if kind == "siglip" else ("cls", "patch", "prompt")
    total = sum(image.mass(name) for name in names)
    torch.testing.assert_close(total, torch.ones_like(total))
    assert int(image.keys.mask("cls").sum()) == (kind != "siglip")
    assert recording.attention["text", 1].key("prompt").weights.shape[-1] == 2


def test_a_split_of_groups_needs_a_class_token():
    with pytest.raises(ValueError, match="split groups give the class token a vector of its own.*has none"):
        methods.build("bias_tuning", tiny("siglip"), checks.CLASSES, groups="split")
    assert methods.build("bias_tuning", tiny("pe"), checks.CLASSES, groups="split").adapter(batch_for(tiny("pe")))


@pytest.mark.parametrize("kind", ["siglip", "pe"])
def test_masks_by_gradient_find_the_patches(kind):
    recipe = methods.build("ivlp+dapt", tiny(kind), checks.CLASSES)
    batch = batch_for(tiny(kind))
    adapter, _ = checks.trained(recipe, batch, 1)
    with adapter.extras["decoupled"](adapter, batch) as parts:
        parts.complete(adapter.prompt(), adapter(batch))
        assert parts.masks.shape == (3, 1, 32, 32)


def test_folding_into_other_libraries_weights_is_refused():
    from cliptune.wrappers.bias import folded

    adapter = methods.build("bias_tuning", tiny("eva"), checks.CLASSES).adapter
    with (
        pytest.raises(ValueError, match="the blocks of the image tower, Eva of timm, are another library's"),
        folded(adapter),
    ):
        pass
