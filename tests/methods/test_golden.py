"""Every method against values that the field's released code computed: logits, loss, gradients, optimiser steps."""

from __future__ import annotations

import pytest
import torch

from cliptune import interop, methods
from cliptune.clip import TokenBatch
from cliptune.recipe import Recipe
from cliptune.registry.building import find
from tests.golden.reference import assert_equals, golden, published_start, reference_batch, reference_clip

METHODS = ("coop", "cocoop", "kgcoop", "vpt", "ivlp", "maple", "promptsrc")
CASES = [(m, case) for m in METHODS for case in golden(m)[0]["cases"] if case != "gpa"]

ALONE = ("coop", "cocoop", "kgcoop")


def from_golden(method: str, case: str) -> Recipe:
    """The recipe of a reference case, with its published start."""
    meta = golden(method)[0]
    given = meta["cases"][case]
    options = {"epochs": 1}
    if method == "coop":
        options |= {"position": given["class_token_position"], "words": given["ctx_init"]}
    elif method == "kgcoop":
        options |= {"template": given["template"], "weight": given["W"]}
    elif method in ("ivlp", "maple", "promptsrc"):
        options |= {"words": given["ctx_init"]}
    names = given.get("classnames", meta["classnames"])
    return interop.from_published(
        method, published_start(method, case), reference_clip(given["arch"]), names, **options
    )


@pytest.mark.parametrize(("method", "case"), CASES)
@pytest.mark.filterwarnings("ignore:to_published. the tensors do not say where")
def test_method_equals_released_code(method, case):
    recipe, tensors = from_golden(method, case), golden(method)[1]
    adapter, batch = recipe.adapter, reference_batch()
    given = golden(method)[0]["cases"][case]
    names = {name: find(method).published_name(name) for name in adapter.learnables()}
    optimiser = torch.optim.SGD(
        adapter.trainable().values(), lr=given["lr"], momentum=recipe.stages[0].optimiser.momentum,
        weight_decay=recipe.stages[0].optimiser.weight_decay,
    )  # fmt: skip
    for step in (1, 2):
        out = adapter(batch, needs=recipe.stages[0].objective.needs)
        loss, parts = recipe.stages[0].objective(out, batch, 0.0)
        optimiser.zero_grad()
        loss.backward()
        if step == 1:
            if f"{case}/logits" in tensors:
                assert_equals(out.logits, tensors, f"{case}/logits")
            assert_equals(loss, tensors, f"{case}/loss")
            for name in set(parts) & {"kg"}:
                assert_equals(parts[name], tensors, f"{case}/loss_{name}")
            if f"{case}/image_features" in tensors and method != "promptsrc":  # there after normalisation
                assert_equals(out.image_embedding[:, 0], tensors, f"{case}/image_features")
            for name, parameter in adapter.trainable().items():
                assert_equals(parameter.grad, tensors, f"{case}/grad/{names[name]}")
        elif f"{case}/loss_step2" in tensors:
            assert_equals(loss, tensors, f"{case}/loss_step2")
        optimiser.step()
        if any(key.startswith(f"{case}/step{step}/") for key in tensors):
            for name, value in interop.to_published(method, adapter).items():
                # Written as the release loads it: some load the prompt learner alone, without its name in front.
                learner = "" if name.startswith("prompt_learner.") or method not in ALONE else "prompt_learner."
                assert_equals(value, tensors, f"{case}/step{step}/{learner}{name}")


@pytest.mark.parametrize("case", [c for m, c in CASES if m == "coop" and "init" in c])
def test_word_start_equals_released_code(case):
    """Built, not loaded: the context starts at the embeddings of its words."""
    given = golden("coop")[0]["cases"][case]
    recipe = methods.build(
        "coop", reference_clip(given["arch"]), given["classnames"], n_ctx=4, position=given["class_token_position"]
    )
    (value,) = recipe.adapter.learnables().values()
    assert_equals(value, golden("coop")[1], f"{case}/param/prompt_learner.ctx")


@pytest.mark.parametrize("arch", ["vit_small", "rn_small"])
@pytest.mark.parametrize("plain", [False, True])
def test_zero_shot_equals_released_code(arch, plain):
    clip, tensors = reference_clip(arch), golden("zeroshot")[1]
    names = golden("coop")[0]["classnames"]
    recipe = methods.build("zeroshot", clip, names)
    assert torch.equal(recipe.adapter.texts.ids.int(), tensors["token_ids"])
    clip.text.plain = plain
    try:
        out = recipe.adapter(reference_batch())
        assert_equals(out.image_embedding[:, 0], tensors, f"{arch}/image_features")
        assert_equals(
            clip.encode_text(TokenBatch.plain(tensors["token_ids"].long()))[0], tensors, f"{arch}/text_features"
        )
        assert_equals(out.logits, tensors, f"{arch}/logits")
    finally:
        clip.text.plain = False


@pytest.mark.parametrize("arch", ["vit_small", "rn_small"])
def test_every_block_equals_released_code(arch):
    """Block by block, so that an error names its place."""
    clip, tensors = reference_clip(arch), golden("zeroshot")[1]
    seen: dict[str, torch.Tensor] = {}

    def keep(name: str, module: torch.nn.Module) -> None:
        hooks.append(module.register_forward_hook(lambda *args, name=name: seen.update({name: args[2]})))

    hooks: list = []
    # A block has no forward of its own; the input of the next LayerNorm is its output.
    text = [*(b.ln_1 for b in clip.text.transformer.resblocks[1:]), clip.text.ln_final]
    for i, norm in enumerate(text):
        hooks.append(norm.register_forward_pre_hook(lambda _, args, i=i: seen.update({f"text_block{i}": args[0]})))
    if arch == "vit_small":
        for i, block in enumerate(clip.image.transformer.resblocks[1:]):
            hooks.append(
                block.ln_1.register_forward_pre_hook(lambda _, args, i=i: seen.update({f"image_block{i}": args[0]}))
            )
    else:
        for stage in (1, 2, 3, 4):
            keep(f"image_layer{stage}", getattr(clip.image, f"layer{stage}"))
    clip.text.plain = True
    try:
        methods.build("zeroshot", clip, golden("coop")[0]["classnames"]).adapter(reference_batch())
    finally:
        clip.text.plain = False
        for hook in hooks:
            hook.remove()
    assert {"text_block0", "text_block1"} <= set(seen)
    for name in ("text_block0", "text_block1"):
        assert_equals(seen[name][0, :16], tensors, f"{arch}/{name}")
    for name, value in seen.items():
        if name.startswith("image_block"):
            assert_equals(value[0], tensors, f"{arch}/{name}")
        elif name.startswith("image_layer"):
            assert_equals(value[0].mean(dim=(-2, -1)), tensors, f"{arch}/{name}")
