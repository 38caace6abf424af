"""Adapters with add-ons, written as released checkpoints of their hosts."""

from __future__ import annotations

import pytest
import torch

from cliptune.interop import from_published, to_published
from cliptune.methods import build
from tests.conftest import CLASS_NAMES


def moved(method, clip, **options):
    """An adapter whose learnables are all off their start, DPC in its second stage."""
    adapter = build(method, clip, CLASS_NAMES, **options).adapter
    shift = lambda: [p.data.add_(0.1 * torch.randn_like(p)) for p in adapter.parameters() if p.requires_grad]
    shift()
    if "dpc" in method:
        adapter.prompt.open()
        shift()
    return adapter.eval()


@pytest.mark.parametrize(
    "method", ["coop+dpc", "coop+rlp", "ivlp+rlp+dpc", "maple+dpc", "kgcoop+dapt", "promptsrc+rlp"]
)
def test_the_host_alone_gives_the_same_answers(method, tiny_clip, images):
    adapter = moved(method, tiny_clip)
    host = method.split("+")[0]
    for seen in (True, False):
        tensors = to_published(method, adapter, seen=seen)
        plain = from_published(host, tensors, tiny_clip, CLASS_NAMES).adapter
        adapter.set_classes(CLASS_NAMES, seen=seen)
        torch.testing.assert_close(plain.logits(images), adapter.logits(images), rtol=1e-4, atol=1e-4)
    assert adapter.prompt is not plain.prompt


@pytest.mark.parametrize(("mode", "weight"), [("paper", 0.3), ("converse", 1 / 0.3), ("released", 1.0)])
def test_the_mixed_context_is_the_formulas(mode, weight, tiny_clip):
    adapter = moved("coop+dpc", tiny_clip, dpc_mode=mode, dpc_base_weight=0.3, dpc_new_weight=0.1)
    tuned, stored = (next(part.parameters()).detach() for part in (adapter.prompt.tuned, adapter.prompt.parallel))
    base = to_published("coop+dpc", adapter)["prompt_learner.ctx"]
    torch.testing.assert_close(base, weight * stored + (1 - weight) * tuned)
    new = to_published("coop+dpc", adapter, seen=False)["prompt_learner.ctx"]
    weight = 0.1 / 0.3 if mode == "converse" else 0.1
    torch.testing.assert_close(new, weight * stored + (1 - weight) * tuned)


def test_what_does_not_fold_is_refused(tiny_clip):
    with pytest.raises(ValueError, match="what bias learns has no place in a released checkpoint of coop"):
        to_published("coop+bias", moved("coop+bias", tiny_clip))
    with pytest.raises(ValueError, match="maps cannot be mixed"):
        to_published("maple+dpc", moved("maple+dpc", tiny_clip, dpc_train_maps=True))
