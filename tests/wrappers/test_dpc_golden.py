"""DPC over CoOp against values that its released code computed."""

from __future__ import annotations

from random import Random

import pytest
import torch

from cliptune import methods
from cliptune.batch import Batch
from cliptune.objectives.contrastive import symmetric_contrastive
from cliptune.recipe import Recipe
from cliptune.wrappers.negatives import choose_negatives
from tests.golden.reference import CLIP_MEAN, CLIP_STD, TOLERANCE, golden, reference_clip

META, TENSORS = golden("dpc")
MODES = {"": "released", "_fixedP": "converse", "_noinit": "converse"}


def assert_near(actual: torch.Tensor, key: str, tolerance: float = TOLERANCE) -> None:
    expected = TENSORS[key]
    assert actual.shape == expected.shape
    assert (actual - expected).abs().max() <= tolerance * expected.abs().max(), key


def pictures(key: str, labels: torch.Tensor) -> Batch:
    mean, std = (torch.tensor(v)[:, None, None] for v in (CLIP_MEAN, CLIP_STD))
    return Batch.of(TENSORS["images"][TENSORS[key]] * std + mean, labels)


def opened(run: str, names: list[str]) -> Recipe:
    """The recipe at the beginning of its second stage, with the reference's tuned prompt."""
    omega, kind = float(run[1:4]), run[4:]
    recipe = methods.build(
        "coop+dpc",
        reference_clip("vit_small"),
        names,
        n_ctx=4,
        dpc_mode=MODES[kind],
        dpc_base_weight=omega,
        dpc_duplicates="keep",
        dpc_start="fresh" if kind == "_noinit" else "tuned",
    )
    prompt = recipe.adapter.prompt
    prompt.tuned.layers[0].value.data.copy_(TENSORS["P"])
    prompt.parallel.layers[0].value.data.copy_(TENSORS["fresh"])
    for begin in recipe.stages[1].before:
        begin(recipe.adapter)
    return recipe


@pytest.mark.parametrize("run", ["w0.2", "w0.5", "w0.2_fixedP", "w0.5_fixedP", "w0.2_noinit"])
def test_two_steps_equal_released_code(run):
    recipe = opened(run, META["classes"])
    adapter, stage = recipe.adapter, recipe.stages[1]
    (stored,) = adapter.trainable().values()
    optimiser = torch.optim.SGD([stored], lr=stage.optimiser.lr, momentum=0.9, weight_decay=5e-4)
    for step in (0, 1):
        batch = pictures(f"batch{step}", TENSORS[f"labels{step}"])
        adapter.train()
        out = adapter(batch)
        if step == 0:
            assert_near(out.logits[:, batch.labels], f"{run}/logits_per_img0")
        loss, _ = stage.objective(out, batch, 0.0)
        optimiser.zero_grad()
        loss.backward()
        # Reference tolerances: 1e-4 at the first step, 3e-4 after it.
        assert_near(loss, f"{run}/loss{step}", 3e-4 if step else 1e-4)
        assert_near(stored.grad, f"{run}/grad{step}", 3e-4 if step else 1e-4)
        optimiser.step()
        assert_near(stored, f"{run}/stored_ctx{step + 1}")
    if f"{run}/effective_ctx2" in TENSORS:
        assert_near(adapter.prompt().text.tokens[0], f"{run}/effective_ctx2")
    with adapter.evaluating(), torch.no_grad():
        assert_near(adapter(pictures("anchors", batch.labels[:5])).logits, f"{run}/eval_logits", 3e-4)


@pytest.mark.parametrize("run", ["w0.2", "w0.5", "w0.2_fixedP", "w0.5_fixedP"])
def test_base_and_new_classes_equal_released_code(run):
    adapter = opened(run, META["base"]).adapter
    adapter.prompt.parallel.layers[0].value.data.copy_(TENSORS[f"b2n/{run}/stored_ctx"])
    batch = pictures("b2n/images", torch.zeros(5, dtype=torch.int64))
    with adapter.evaluating(), torch.no_grad():
        assert_near(adapter(batch).logits, f"b2n/{run}/base")
        adapter.set_classes(META["new"])
        for omega in (0.0, 0.2, 0.5):
            adapter.prompt.new_weight = omega
            assert_near(adapter(batch).logits, f"b2n/{run}/new_wn{omega}")


@pytest.mark.parametrize("case", META["negatives"])
def test_negatives_equal_released_code(case):
    given = META["negatives"][case]
    if "per_sample" not in given:
        with pytest.raises(RuntimeError):
            TENSORS[f"scores/{case}"].topk(given["infer_topk"])
        return
    # Five images per class: c<i>/0.png … c<i>/4.png.
    positions = {c: list(range(5 * c, 5 * c + 5)) for c in range(given["C"])}
    random = Random(given["seed"])
    chosen = choose_negatives(
        TENSORS[f"scores/{case}"], given["labels"], given["infer_topk"], positions, random, "released"
    )
    classes = [[label, *(p // 5 for p in some)] for label, some in zip(given["labels"], chosen, strict=True)]
    assert classes == given["per_sample"]
    assert [f"c{p // 5}/{p % 5}.png" for some in chosen for p in some] == given["images"]
    assert random.random() == pytest.approx(given["random_after"], abs=1e-12)


@pytest.mark.parametrize("mode", ["eval_bn", "train"])
def test_contrast_of_given_features_equals_released_code(mode):
    """The loss of DPC over PromptKD, from its projected features."""
    image = TENSORS[f"contrast/{mode}.img_kd"]
    text = TENSORS["contrast/txt"]
    labels, scale = TENSORS["contrast/label"], TENSORS["contrast/logit_scale"].exp()
    text = text.clone().requires_grad_()
    unit = torch.nn.functional.normalize(text, dim=-1)
    loss = symmetric_contrastive(scale * image @ unit[labels].T, labels, "keep")
    assert_near(loss.detach(), f"contrast/{mode}.loss")
    if mode == "eval_bn":
        (grad,) = torch.autograd.grad(loss, text)
        assert_near(grad, "contrast/eval_bn.grad_txt")
