"""DPC over CoOp against values that its released code computed."""

from __future__ import annotations

from random import Random

import pytest
import torch

from cliptune import methods
from cliptune.batch import Batch
from cliptune.objectives.contrastive import symmetric_contrastive
from cliptune.prompts import DeepTokens, Together
from cliptune.prompts.dual import DualPrompt
from cliptune.prompts.projector import Projector
from cliptune.recipe import Recipe
from cliptune.wrappers.negatives import choose_negatives
from tests.golden.reference import CLIP_MEAN, CLIP_STD, TOLERANCE, assert_equals, golden, reference_clip

META, TENSORS = golden("dpc")
STUDENT = golden("dpc_promptkd")[1]
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
def test_contrast_behind_a_projector_equals_released_code(mode):
    """The loss of DPC over PromptKD with its gradients: into texts, image features and the projector's first layer."""
    image, text = STUDENT["img"].clone().requires_grad_(), TENSORS["contrast/txt"].clone().requires_grad_()
    projector = Projector(image.shape[1], text.shape[1]).train(mode == "train")
    state = {k.removeprefix("trans.conv1."): v for k, v in STUDENT.items() if k.startswith("trans.conv1.")}
    state |= {f"1.{name}": STUDENT[f"trans.{name}"] for name in ("running_mean", "running_var")}
    own = projector.map.state_dict()
    projector.map.load_state_dict(own | {name: value.reshape(own[name].shape) for name, value in state.items()})
    unit = torch.nn.functional.normalize
    features = unit(projector.project(image[:, None])[:, 0], dim=-1)
    assert_near(features.detach(), f"contrast/{mode}.img_kd")
    labels, scale = TENSORS["contrast/label"], TENSORS["contrast/logit_scale"].exp()
    loss = symmetric_contrastive(scale * features @ unit(text, dim=-1)[labels].T, labels, "keep")
    assert_near(loss.detach(), f"contrast/{mode}.loss")
    loss.backward()
    expected = STUDENT | {k.removeprefix("contrast/"): v for k, v in TENSORS.items() if k.startswith("contrast/")}
    assert_equals(text.grad, expected, f"{mode}.grad_txt")
    assert_equals(image.grad, expected, f"{mode}.grad_img")
    first = projector.map[0]
    assert_equals(first.weight.grad[..., None, None], expected, f"{mode}.grad_conv1.0.weight")
    if mode == "eval_bn":  # in training the BatchNorm takes the bias out again
        assert_equals(first.bias.grad, expected, f"{mode}.grad_conv1.0.bias")


@pytest.mark.parametrize("weight", [0.0, 0.2])
def test_prompts_for_new_classes_equal_those_the_release_loads(weight):
    """Over PromptKD: every prompt of both towers is mixed, layer by layer."""
    tuned = {"text": ("ctx", "txt1", "txt2"), "image": ("VPT", "vis1", "vis2")}
    stored = {
        tower: (first, *(f"{tower}_encoder.transformer.resblocks.{i}.VPT_shallow" for i in (1, 2)))
        for tower, first in (("text", "prompt_learner.ctx"), ("image", "image_encoder.VPT"))
    }
    of = lambda names, start: Together(
        **{tower: DeepTokens(tower, [STUDENT[f"{start}.{name}"] for name in some]) for tower, some in names.items()}
    )
    dual = DualPrompt(of(tuned, "pre"), "released", 0.2, weight)
    dual.open()
    dual.parallel = of(stored, "ckpt")
    ports = dual.eval()(seen=False)
    for tower, names in stored.items():
        for layer, name in enumerate(names):
            assert_equals(getattr(ports, tower).tokens[layer].detach(), STUDENT, f"new_wn{weight}.{name}")


@pytest.mark.parametrize(("mode", "name"), [("converse", "fixedP"), ("released", "shared")])
def test_what_the_towers_see_of_a_stored_prompt_equals_released_code(mode, name):
    dual = DualPrompt(DeepTokens("text", [STUDENT["pk.P"]]), mode, 0.2)
    dual.open()
    dual.parallel.layers[0].value.data.copy_(STUDENT["pk.stored"])
    assert_equals(dual.train()().text.tokens[0].detach(), STUDENT, f"pk.effective_{name}")
