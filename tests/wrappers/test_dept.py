"""DePT against its release, its losses written out, and where it cannot be."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from cliptune import methods
from cliptune.batch import Batch
from cliptune.clip.weights.openai import OPENAI_CONFIGS
from cliptune.training.optim import build_optimiser, set_rate
from tests.conftest import CLASS_NAMES
from tests.golden import weights
from tests.golden.reference import golden, reference_batch, reference_clip

RELEASED = golden("dept")[1]
NAMES = ("golden retriever", "forest", "Boeing 737-800", "red panda", "highway or road", "yawl", "lemon meringue pie")
LABELS = torch.tensor([0, 3, 1])
THEIRS = {
    "prompt.layers.0.value": "prompt_learner.ctx",
    "head.image.scale": "film_lp_img.scale",
    "head.image.shift": "film_lp_img.bias",
    "head.text.scale": "film_lp_text.scale",
    "head.text.shift": "film_lp_text.bias",
    "head.classifier.weight": "linear_probe_proj.weight",
    "head.classifier.bias": "linear_probe_proj.bias",
}


@pytest.fixture
def released():
    """CoOp with DePT on the reference CLIP, with the learnables that its release was given."""
    options = {"n_ctx": 4, "words": "a photo of a", "lr": 3.5e-3, "dept_fusion": "released"}
    recipe = methods.build("coop+dept", reference_clip("vit_small"), NAMES, **options)
    start = recipe.adapter.learnables() | {
        "head.classifier.weight": weights.draw((7, 512), 0.05, 11),
        "head.classifier.bias": weights.draw((7,), 0.05, 12),
        "head.image.scale": weights.draw((512,), 0.1, 13, 1.0),
        "head.image.shift": weights.draw((512,), 0.1, 14),
        "head.text.scale": weights.draw((512,), 0.1, 15, 1.0),
        "head.text.shift": weights.draw((512,), 0.1, 16),
    }
    recipe.adapter.load_learnables(start)
    return recipe


def near(actual, key):
    expected = RELEASED[key]
    assert (actual - expected).abs().max() <= 3e-4 * expected.abs().max(), key


def test_training_and_answers_are_the_releases(released):
    """The stored values are of the release's own CustomCLIP (trainers/elp_coop.py) and build_optimizer
    (trainers/optim.py): three steps of SGD on five images, then the logits of trained classes and of others."""
    adapter, stage = released.adapter, released.stages[0]
    batch = reference_batch()
    optimiser = build_optimiser(stage.optimiser, adapter.trainable())
    set_rate(optimiser, stage.optimiser.lr)
    adapter.train()
    for step, expected in enumerate(RELEASED["losses"]):
        loss, _ = stage.objective(adapter(batch, needs=stage.objective.needs), batch, 0.0)
        torch.testing.assert_close(loss.detach(), expected, rtol=3e-4, atol=0)
        optimiser.zero_grad()
        loss.backward()
        if step == 0:
            near(adapter.prompt.layers[0].value.grad, "grad/ctx")
        optimiser.step()
    for ours, theirs in THEIRS.items():
        near(adapter.learnables()[ours], f"after/{theirs}")
    with adapter.evaluating(), torch.no_grad():
        near(adapter(batch).logits, "logits/base")
        near(adapter.for_texts(("lynx", "puma", "blue jay"))(batch).logits, "logits/new")


@pytest.mark.parametrize("host", ["kgcoop", "promptsrc", "cocoop"])
def test_the_loss_splits_the_cross_entropy_and_keeps_the_rest(host, tiny_clip, images):
    recipe = methods.build(f"{host}+dept", tiny_clip, CLASS_NAMES, dept_weight=0.6)
    adapter, objective, batch = recipe.adapter, recipe.stages[0].objective, Batch.of(images, LABELS)
    torch.nn.init.normal_(adapter.head.classifier.weight)
    loss, parts = objective(adapter(batch, needs=objective.needs), batch, 0.0)
    plain = methods.build(host, tiny_clip, CLASS_NAMES)
    needs = plain.stages[0].objective.needs
    out = plain.adapter(batch, needs=needs | {"text_embedding"})
    host_loss, host_parts = plain.stages[0].objective(out, batch, 0.0)
    head = adapter.head
    transfer = 0.0
    for b, label in enumerate(LABELS.tolist()):
        text = out.text_embedding.expand(3, -1, -1)[b, label]
        for side, embedding in ((head.image, out.image_embedding[b, 0]), (head.text, text)):
            scores = head.classifier.weight @ (side.scale * embedding + side.shift) + head.classifier.bias
            transfer -= scores.log_softmax(0)[label] / 6
    expected = host_loss - 0.6 * host_parts["ce"] + 0.6 * transfer
    torch.testing.assert_close(loss, expected, rtol=1e-4, atol=1e-5)
    assert set(parts) == {*host_parts, "transfer"}


def test_new_classes_are_answered_by_the_host_alone(tiny_clip, images):
    adapter = methods.build("coop+dept", tiny_clip, CLASS_NAMES).adapter
    plain = methods.build("coop", tiny_clip, CLASS_NAMES).adapter
    assert torch.equal(
        adapter.for_texts(("lynx", "puma")).logits(images), plain.for_texts(("lynx", "puma")).logits(images)
    )
    mixed = ("lynx", CLASS_NAMES[1])
    assert torch.equal(adapter.for_texts(mixed).logits(images), plain.for_texts(mixed).logits(images))
    some = adapter.for_texts(CLASS_NAMES[3:0:-1]).logits(images)
    assert not torch.allclose(some, plain.for_texts(CLASS_NAMES[3:0:-1]).logits(images))


def test_the_embedding_before_unit_norm_is_that_of_the_texts(tiny_clip, images):
    adapter = methods.build("coop", tiny_clip, CLASS_NAMES).adapter
    out = adapter(Batch.of(images), needs=frozenset({"text_embedding"}))
    torch.testing.assert_close(F.normalize(out.text_embedding, dim=-1), adapter(Batch.of(images)).text_features)
    assert adapter(Batch.of(images)).text_embedding is None


def test_learnables_and_rates():
    vit = OPENAI_CONFIGS["ViT-B/16"]
    assert methods.count_learnables("coop+dept", vit, classes=7) == 4 * 512 + 4 * 512 + 7 * 513


def test_the_new_head_has_a_rate_of_its_own(tiny_clip):
    optimiser = methods.build("coop+dept", tiny_clip, CLASS_NAMES, dept_lr_scale=3.0).stages[0].optimiser
    assert optimiser.factor("head.classifier.weight") == 3.0
    assert optimiser.factor("prompt.layers.0.value") == 1.0


@pytest.mark.filterwarnings("ignore:.*have no descriptions")
@pytest.mark.parametrize(
    ("method", "why"),
    [
        ("zeroshot+dept", "takes no gradient steps"),
        ("gda+dept", "takes no gradient steps"),
        ("tip_adapter_f+dept", "answers with a head of its own"),
        ("attrvr+dept", "several texts"),
        ("promptkd+dept", "keeps class texts of another CLIP"),
        ("coop+dept+dpc", "learns in its head as well"),
    ],
)
def test_a_host_without_the_place_says_so(method, why, tiny_clip):
    with pytest.raises(ValueError, match=why):
        methods.build(method, tiny_clip, CLASS_NAMES)


@pytest.mark.parametrize("scale", [0.0, -1.0, float("inf")])
def test_a_rate_out_of_range_is_a_sentence(scale, tiny_clip):
    with pytest.raises(ValueError, match="dept_lr_scale must be above 0"):
        methods.build("coop+dept", tiny_clip, CLASS_NAMES, dept_lr_scale=scale)


def test_dapt_asks_both_heads_about_the_foreground(tiny_clip, images):
    recipe = methods.build("maple+dept+dapt", tiny_clip, CLASS_NAMES, dapt_together=True)
    adapter, objective, batch = recipe.adapter, recipe.stages[0].objective, Batch.of(images, LABELS)
    out = adapter(batch, needs=objective.needs)
    views = out.extras["decoupled"]
    mean = torch.tensor(tiny_clip.mean)[:, None, None]
    masked = replace(batch, images=batch.images * views.masks + (1 - views.masks) * mean)
    with torch.no_grad():
        expected = adapter(masked).logits
    torch.testing.assert_close(views.foreground_logits(), expected, rtol=1e-4, atol=1e-4)
