"""PromptKD against its released code, and what a student may be taught by."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import pytest
import torch
import torch.nn.functional as F

from cliptune import interop, methods
from cliptune.adapter import Adapter
from cliptune.batch import Batch
from cliptune.clip import CLIP
from cliptune.clip.tokenizer import default_tokenizer
from cliptune.methods.promptkd import published_name
from tests.conftest import CLASS_NAMES, TINY, random_clip
from tests.golden import weights
from tests.golden.reference import assert_equals, golden, published_start, reference_batch, reference_clip

META, TENSORS = golden("promptkd")


@cache
def released_teacher() -> Adapter:
    tensors = weights.openai_state_dict("vit_teacher", 7)
    clip = CLIP.from_state_dict(tensors, name="vit_teacher", tokenizer=default_tokenizer())
    prompts = {k.removeprefix("teacher/param/"): v for k, v in TENSORS.items() if k.startswith("teacher/param/")}
    return interop.from_published("promptsrc", prompts, clip, META["classnames"]).adapter


def released_student(case: str):
    given = META["cases"][case]
    start = published_start("promptkd", case)
    norm = "VPT_image_trans.conv1.1"
    width = len(start[f"{norm}.weight"])
    start |= {f"{norm}.running_mean": torch.zeros(width), f"{norm}.running_var": torch.ones(width)}
    start[f"{norm}.num_batches_tracked"] = torch.tensor(0)
    options = {"temperature": given["temperature"], "weight": given["kd_weight"], "lr": given["lr"]}
    clip = reference_clip("vit_small")
    return interop.from_published("promptkd", start, clip, META["classnames"], teacher=released_teacher(), **options)


@pytest.mark.parametrize("case", META["cases"])
def test_student_equals_released_code(case):
    recipe, batch = released_student(case), reference_batch()
    adapter, objective = recipe.adapter, recipe.stages[0].objective
    out = adapter.eval()(batch)
    assert_equals(out.text_features[0], TENSORS, "teacher/text_features")
    assert_equals(objective.logits(out, batch), TENSORS, "teacher/logits")
    assert_equals(out.logits, TENSORS, f"{case}/logits_eval")
    given = recipe.stages[0].optimiser
    optimiser = torch.optim.SGD(
        adapter.train().trainable().values(), lr=given.lr, momentum=given.momentum, weight_decay=given.weight_decay
    )
    out = adapter(batch)
    loss, parts = objective(out, batch, 0.0)
    loss.backward()
    assert_equals(out.logits, TENSORS, f"{case}/logits_train")
    assert_equals(out.image_features[:, 0], TENSORS, f"{case}/student_features_train")
    assert_equals(loss, TENSORS, f"{case}/loss")
    assert_equals(parts["kd"], TENSORS, f"{case}/loss_kd")
    # Before the BatchNorm a bias has no effect; its gradient is rounding noise.
    silent = "VPT_image_trans.conv1.0.bias"
    gradients = {published_name(name): parameter.grad for name, parameter in adapter.trainable().items()}
    for name, gradient in gradients.items():
        if name != silent:
            convolution = gradient[..., None, None] if name.endswith(("1.0.weight", "1.3.weight")) else gradient
            assert_equals(convolution, TENSORS, f"{case}/grad/{name}")
    optimiser.step()
    after = interop.to_published("promptkd", adapter)
    for name in gradients:
        if name != silent:
            assert_equals(after[name], TENSORS, f"{case}/step1/{name}")
    for name in ("running_mean", "running_var"):
        assert_equals(after[f"VPT_image_trans.conv1.1.{name}"], TENSORS, f"{case}/bn_{name}")
    with torch.no_grad():
        assert_equals(adapter.eval()(batch).logits, TENSORS, f"{case}/logits_eval_step1")


def teacher_of(method: str, names: tuple[str, ...] = CLASS_NAMES, **options) -> Adapter:
    return methods.build(method, random_clip(seed=4), names, **options).adapter


def test_rows_follow_the_classes(tiny_clip, images):
    teacher = teacher_of("promptsrc")
    adapter = methods.build("promptkd", tiny_clip, CLASS_NAMES[:3], teacher=teacher).adapter
    assert adapter.known_texts.names == CLASS_NAMES
    everything = adapter.for_texts(CLASS_NAMES).logits(images)
    some = adapter.for_texts([CLASS_NAMES[4], CLASS_NAMES[1]]).logits(images)
    torch.testing.assert_close(some, everything[:, [4, 1]])
    torch.testing.assert_close(adapter.logits(images), everything[:, :3])


def test_other_classes_need_the_teacher_at_hand(tiny_clip, images, tmp_path):
    recipe = methods.build("promptkd", tiny_clip, CLASS_NAMES, teacher=teacher_of("promptsrc"))
    assert recipe.adapter.for_texts(["lynx", "puma"]).logits(images).shape == (3, 2)
    # What a run writes down is plain, and opens without the teacher.
    again = methods.build("promptkd", tiny_clip, CLASS_NAMES, **recipe.config)
    assert again.config == recipe.config
    again.adapter.load_learnables(recipe.adapter.learnables())
    torch.testing.assert_close(again.adapter.logits(images), recipe.adapter.logits(images))
    with pytest.raises(ValueError, match="cannot speak of other classes, such as 'lynx'"):
        again.adapter.set_classes(["lynx", "puma"])
    with pytest.raises(ValueError, match="opened without its teacher"):
        again.stages[0].objective(again.adapter(Batch.of(images)), Batch.of(images), 0.0)


def test_flags_name_the_teacher_and_what_was_seen(tiny_clip):
    teacher = teacher_of("maple")
    flags = methods.build("promptkd", tiny_clip, CLASS_NAMES, teacher=teacher, transductive=True).flags
    assert flags["external_models"][0].startswith("teacher: maple on tiny (")
    assert flags["unlabelled_test_images"]
    assert flags["extra_images"]
    own = methods.build("promptkd", tiny_clip, CLASS_NAMES).flags
    assert own == {"external_models": [], "extra_images": False, "unlabelled_test_images": False}


def test_a_student_can_teach(tiny_clip, images):
    first = methods.build("promptkd", tiny_clip, CLASS_NAMES).adapter
    recipe = methods.build("promptkd", tiny_clip, CLASS_NAMES, teacher=first)
    batch = Batch.of(images)
    answers = recipe.stages[0].objective.logits(recipe.adapter(batch), batch)
    torch.testing.assert_close(answers, first.logits(images))


def test_impossible_teachers_are_refused_with_a_sentence(tiny_clip):
    with pytest.raises(ValueError, match="does not depend on the image"):
        methods.build("promptkd", tiny_clip, CLASS_NAMES, teacher=teacher_of("cocoop"))
    with pytest.raises(ValueError, match="must be an adapter or 'zeroshot', got 'runs/x'"):
        methods.build("promptkd", tiny_clip, CLASS_NAMES, teacher="runs/x")
    with pytest.raises(ValueError, match="cannot speak of other classes"):
        methods.build("promptkd", tiny_clip, ["lynx"], teacher=teacher_of("coop", class_specific=True))
    adapter = methods.build("promptkd", tiny_clip, CLASS_NAMES).adapter.train()
    with pytest.raises(ValueError, match="width is for a teacher that is not at hand"):
        methods.build("promptkd", tiny_clip, CLASS_NAMES, teacher=teacher_of("promptsrc"), width=17)
    with pytest.raises(ValueError, match="a batch size of at least 2"):
        adapter(Batch.of(torch.rand(1, 3, 32, 32)))


def test_each_class_is_told_as_its_teacher_tells_it(tiny_clip):
    """A teacher with dpc speaks of trained classes with another weight than of new ones."""
    teacher = methods.build("coop+dpc", tiny_clip, CLASS_NAMES[:3]).adapter
    teacher.prompt.open()
    for p in teacher.trainable().values():
        p.data.add_(0.2 * torch.randn_like(p))
    recipe = methods.build("promptkd", tiny_clip, CLASS_NAMES[:3], teacher=teacher, names=CLASS_NAMES[::-1])
    told = dict(zip(CLASS_NAMES[::-1], recipe.adapter.known_texts.features, strict=True))
    with teacher.evaluating():
        for names in (CLASS_NAMES[:3], CLASS_NAMES[3:]):
            own = teacher.for_texts(names).text_features()[0]
            torch.testing.assert_close(torch.stack([told[name] for name in names]), own)


def test_teachers_are_told_apart_by_how_they_were_built(tiny_clip):
    def named(**options):
        teacher = methods.build("coop", tiny_clip, CLASS_NAMES, **options).adapter
        return methods.build("promptkd", tiny_clip, CLASS_NAMES, teacher=teacher).config["teacher"].rsplit(" (", 1)[0]

    assert named() == "coop on tiny"
    assert named(n_ctx=2, epochs=3) == "coop n_ctx=2 epochs=3 on tiny"


def test_a_student_of_a_teacher_of_another_width_does_not_fit(tiny_clip):
    student = lambda embed: (
        methods.build(
            "promptkd",
            tiny_clip,
            CLASS_NAMES,
            teacher=methods.build("zeroshot", random_clip(embed), CLASS_NAMES).adapter,
        ).adapter
    )
    learned = student(replace(TINY, embed=20)).learnables()
    with pytest.raises(ValueError, match=r"must have shape \(16,.*another backbone, class list or option"):
        student(TINY).load_learnables(learned)


def test_teachers_of_another_resolution_see_the_same_pictures(tiny_clip, images):
    teacher = methods.build("zeroshot", random_clip(replace(TINY, resolution=48)), CLASS_NAMES).adapter
    recipe = methods.build("promptkd", tiny_clip, CLASS_NAMES, teacher=teacher)
    batch = Batch.of(images)
    resized = F.interpolate(images, (48, 48), mode="bicubic", antialias=True).clamp(0, 1)
    answers = recipe.stages[0].objective.logits(recipe.adapter(batch), batch)
    torch.testing.assert_close(answers, teacher.logits(resized))
