"""Visual reprogramming as a whole: what its methods share, training, folding, missing descriptions."""

from __future__ import annotations

import math
import warnings

import pytest
import torch

from cliptune import fit, load, methods
from cliptune.batch import Batch
from cliptune.protocols.training import train
from cliptune.recipe import OptimiserConfig
from cliptune.texts import ClassSet
from cliptune.training.loop import TrainingDiverged
from cliptune.training.optim import build_optimiser, set_rate
from cliptune.training.schedules import learning_rate
from tests.conftest import CLASS_NAMES
from tests.training.support import NAMES, squares

pytestmark = pytest.mark.filterwarnings("ignore:.*have no descriptions")
LABELS = torch.tensor([0, 3, 1])


def sentences(names=CLASS_NAMES, causes=("shape", "colour", "size", "place"), n=4) -> dict:
    return {
        cause: {name: [f"The {cause} of the {name} is number {i}." for i in range(n)] for name in names}
        for cause in causes
    }


def described(**more) -> ClassSet:
    return ClassSet(CLASS_NAMES, descriptions=sentences(**more))


def trained(recipe, images, steps: int = 2, lr: float = 5.0):
    adapter, batch = recipe.adapter, Batch.of(images, LABELS)
    for stage in recipe.stages:
        if stage.optimiser is None:
            adapter.head.observe(adapter(batch), LABELS)
            adapter.head.refit()
            continue
        optimiser = torch.optim.SGD(adapter.trainable().values(), lr=lr)
        for _ in range(steps):
            out = adapter(batch)
            optimiser.zero_grad()
            stage.objective(out, batch, 0.0)[0].backward()
            optimiser.step()
            adapter.head.observe(out, LABELS)
        adapter.head.refit()
    return adapter


# -- folding --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "views", "options"),
    [
        ("vp", 1, {}),
        ("ar", 1, {}),
        ("attrvr", 1, {"nearest": 99}),
        ("dvp_cse", 4, {"smoothing": 2.0}),
        ("dvp_cse", 1, {"decoupled": False}),
        ("dvp_cse", 4, {"reweight": "mean"}),
        ("dvp_cls", 3, {}),
        ("dvplite", 1, {}),
        ("rvp", 1, {}),
        ("coop", 1, {}),
        ("zeroshot", 1, {}),
        ("maple", 1, {}),
    ],
)
def test_folded_classifier_equals_the_live_adapter(method, views, options, tiny_clip, images):
    adapter = trained(methods.build(method, tiny_clip, described(), **options), images, lr=0.5)
    if method == "rvp":
        torch.nn.init.normal_(adapter.head.within)
        torch.nn.init.normal_(adapter.head.between, std=0.2)
    folded = adapter.fold()
    assert folded.weight.shape == (views, len(CLASS_NAMES), 16)
    with adapter.evaluating(), torch.no_grad():
        live = adapter(Batch.of(images))
    error = (folded(live.image_features) - live.logits).abs().max() / live.logits.abs().max()
    assert error <= 1e-5
    with pytest.raises(ValueError, match="image features must have shape"):
        folded(live.image_features[..., :-1])


def test_what_is_not_linear_does_not_fold(tiny_clip):
    with pytest.raises(ValueError, match="depends on the image"):
        methods.build("attrvr", tiny_clip, described(), nearest=3).adapter.fold()
    with pytest.raises(ValueError, match="depends on the image"):
        methods.build("dvp_cse", tiny_clip, described(), reweight="max").adapter.fold()
    with pytest.raises(ValueError, match="texts depend on the image"):
        methods.build("cocoop", tiny_clip, CLASS_NAMES).adapter.fold()
    with pytest.raises(ValueError, match="cannot be folded"):
        methods.build("linear_probe", tiny_clip, CLASS_NAMES).adapter.fold()


# -- relations between methods ----------------------------------------------------------------------------------------


def label_sentences(copies: int = 3) -> ClassSet:
    label = {name: [f"This is a photo of {name}."] * copies for name in CLASS_NAMES}
    return ClassSet(CLASS_NAMES, descriptions={"des": label, "dist": label})


@pytest.mark.parametrize(("nearest", "weight"), [(1, 0.5), (2, 0.3), (3, 1.0)])
def test_attributes_that_are_labels_make_attrvr_ar(tiny_clip, images, nearest, weight):
    options = {"m": 3, "nearest": nearest, "weight": weight}
    attrvr = methods.build("attrvr", tiny_clip, label_sentences(), **options).adapter
    torch.testing.assert_close(
        attrvr.logits(images), methods.build("ar", tiny_clip, CLASS_NAMES).adapter.logits(images), rtol=1e-4, atol=1e-4
    )


def test_all_attributes_nearest_is_their_average(tiny_clip, images):
    adapter = methods.build("attrvr", tiny_clip, described(), nearest=50, weight=0.25).adapter
    with torch.no_grad():
        out = adapter(Batch.of(images))
    of_set = adapter.texts.set_of[adapter.texts.blocks[0]]
    scores = out.similarity[:, 0][:, adapter.texts.blocks]
    expected = 0.25 * scores[..., of_set == 0].mean(-1) + 0.75 * scores[..., of_set == 1].mean(-1)
    torch.testing.assert_close(out.logits, expected)


def test_one_pattern_and_even_weights_are_ar_with_averaged_scores(tiny_clip, images):
    dvp = methods.build("dvp_cse", tiny_clip, described(), decoupled=False).adapter
    assert dvp.prompt.patterns == 1
    with torch.no_grad():
        out = dvp(Batch.of(images))
    torch.testing.assert_close(out.logits, out.similarity[:, 0].view(3, len(CLASS_NAMES), -1).mean(-1))


def test_equal_patterns_are_one_pattern_whatever_the_partition(tiny_clip, images):
    """DVP-cse with all patterns equal, by three partitions: as given, in another order, and not at all."""
    causes = ("shape", "colour", "size", "place")
    shared = methods.build("dvp_cse", tiny_clip, described(), decoupled=False).adapter
    torch.nn.init.normal_(shared.prompt.program.value)
    expected = shared.logits(images)
    for order in (causes, causes[::-1]):
        split = methods.build("dvp_cse", tiny_clip, described(causes=order)).adapter
        split.prompt.program.value.data.copy_(shared.prompt.program.value.data.repeat(4, 1))
        torch.testing.assert_close(split.logits(images), expected, rtol=1e-4, atol=1e-4)


def test_a_matrix_of_other_classes_is_refused(tiny_clip):
    two = methods.build("dvp_cse", tiny_clip, ClassSet(CLASS_NAMES[:2], descriptions=sentences())).adapter
    all_classes = methods.build("dvp_cse", tiny_clip, described()).adapter
    with pytest.raises(ValueError, match=r"head\.weight must have shape \(5, 16\), got \(2, 16\)"):
        all_classes.load_learnables(two.learnables())


def test_fewer_descriptions_than_wanted_are_repeated_and_said_or_refused(tiny_clip):
    with pytest.warns(UserWarning, match="5 of 5 classes have fewer than m = 6 usable sentences"):
        adapter = methods.build("dvp_cse", tiny_clip, described(), m=6).adapter
    assert adapter.texts.blocks.shape == (5, 4 * 6)
    with pytest.raises(ValueError, match="Lower m, add sentences, or allow replacement"):
        methods.build("dvp_cse", tiny_clip, described(), m=6, replacement="never")


def test_dvp_cls_keeps_its_clusters_with_the_learnables(tiny_clip, images):
    adapter = trained(methods.build("dvp_cls", tiny_clip, described()), images)
    saved = adapter.learnables()
    assert set(saved["head.group"].tolist()) == {0, 1, 2}
    assert {"head.weight", "head.group", "prompt.program.value"} == set(saved)


# -- recipes ----------------------------------------------------------------------------------------------------------


def test_published_recipes_are_the_papers():
    for method, batch in (("vp", 16), ("ar", 16), ("attrvr", 16), ("dvp_cse", 64), ("dvp_cls", 64), ("rvp", 64)):
        one, many = (methods.published_options(method, "few_shot", shots) for shots in (1, 16))
        assert (one["lr"], one["epochs"]) == (40.0, 200)
        assert (one["batch_size"], many["batch_size"]) == (batch, 64)


def test_dvp_first_counts_votes_and_its_rate_never_reaches_zero(tiny_clip):
    first, second = methods.build("dvp_cls", tiny_clip, CLASS_NAMES, lr=40.0, epochs=200).stages
    assert first.optimiser is None
    assert first.augment
    rate = lambda epoch, step: learning_rate(second.optimiser, epoch, second.epochs, step, 5)
    assert second.epochs == 199
    assert rate(0, 0) == 40
    assert learning_rate(second.optimiser, 198, 199, 0, 1) == pytest.approx(20 * (1 + math.cos(198 * math.pi / 200)))
    # after the last step, as a scheduler would show it
    assert 20 * (1 + math.cos(199 * math.pi / 200)) == pytest.approx(0.00247, abs=1e-5)
    with pytest.raises(ValueError, match="at least 2 epochs"):
        methods.build("dvp_cls", tiny_clip, CLASS_NAMES, epochs=1)


def test_rvp_moves_its_head_at_its_own_rate(tiny_clip):
    recipe = methods.build("rvp", tiny_clip, CLASS_NAMES, lr=40.0, head_lr=1e-3)
    optimiser = build_optimiser(recipe.stages[0].optimiser, recipe.adapter.trainable())
    set_rate(optimiser, 20.0)
    rates = {id(p): group["lr"] for group in optimiser.param_groups for p in group["params"]}
    assert rates[id(recipe.adapter.prompt.program.value)] == 20.0
    assert rates[id(recipe.adapter.head.within)] == pytest.approx(5e-4)
    assert rates[id(recipe.adapter.head.between)] == pytest.approx(5e-4)


def test_a_factor_names_the_start_of_a_learnable():
    parameters = {"head.a": torch.nn.Parameter(torch.ones(2)), "prompt.b": torch.nn.Parameter(torch.ones(2))}
    optimiser = build_optimiser(
        OptimiserConfig(lr=1.0, momentum=0.0, weight_decay=0.0, factors={"head.": 0.1}), parameters
    )
    for parameter in parameters.values():
        parameter.grad = torch.ones(2)
    set_rate(optimiser, 0.5)
    optimiser.step()
    torch.testing.assert_close(parameters["head.a"].detach(), torch.full((2,), 0.95))
    torch.testing.assert_close(parameters["prompt.b"].detach(), torch.full((2,), 0.5))


# -- training ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["dvp_cse", "dvp_cls", "rvp"])
def test_a_run_trains_votes_and_opens_again(tiny_clip, tmp_path, method):
    data = squares()
    object.__setattr__(data, "descriptions", sentences(NAMES, ("shape", "colour")))
    run = train(
        method, tiny_clip, data, protocol="few_shot", out=tmp_path, options={"epochs": 3, "batch_size": 4, "lr": 1.0},
        progress="silent",
    )  # fmt: skip
    assert run.result["flags"]["descriptions"] == "given"
    adapter = load(tmp_path, clip=tiny_clip)
    images = torch.rand(4, 3, 32, 32)
    assert torch.equal(adapter.logits(images), run.adapter.logits(images))
    assert adapter.classes.descriptions["shape"]["red"][0] == "The shape of the red is number 0."
    if method != "rvp":
        assert not torch.allclose(adapter.head.weight, torch.full_like(adapter.head.weight, 1 / 8))
        torch.testing.assert_close(adapter.head.weight.sum(-1), torch.ones(3))
        # every image votes in every epoch: 18 = 4 · 4 + 2
        assert all(line["loss"] > 0 for line in run.metrics if line["stage"] == "train")


def test_an_interrupted_run_ends_as_an_uninterrupted_one(tiny_clip, tmp_path, monkeypatch):
    build = lambda: methods.build(
        "dvp_cse", tiny_clip, ClassSet(NAMES, descriptions=sentences(NAMES)), epochs=4, batch_size=4, lr=1.0
    )
    whole = fit(build(), squares(), progress="silent")
    from cliptune.training import loop

    real, calls = loop.add_gradients, []

    def stumble(*args, **more):
        calls.append(1)
        if len(calls) == 8:  # within an epoch, with votes counted so far
            raise KeyboardInterrupt
        return real(*args, **more)

    monkeypatch.setattr(loop, "add_gradients", stumble)
    with pytest.raises(KeyboardInterrupt):
        fit(build(), squares(), out=tmp_path, progress="silent", save_every=0.0)
    resumed = fit(build(), squares(), out=tmp_path, progress="silent", save_every=0.0)
    ours, theirs = resumed.adapter.learnables(), whole.adapter.learnables()
    assert all(torch.equal(value, theirs[name]) for name, value in ours.items())


def test_training_that_diverges_says_at_which_rate(tiny_clip):
    recipe = methods.build("vp", tiny_clip, NAMES, lr=1e38, epochs=3, batch_size=4)
    with pytest.raises(TrainingDiverged, match=r"at learning rate .*Try a lower learning rate"):
        fit(recipe, squares(), progress="silent")


# -- descriptions -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["attrvr", "dvp_cse", "dvp_cls", "dvplite", "rvp"])
def test_missing_descriptions_are_replaced_by_templates_and_said(method, tiny_clip):
    with pytest.warns(UserWarning, match=f"{method}: the classes have no descriptions"):
        recipe = methods.build(method, tiny_clip, CLASS_NAMES)
    assert recipe.flags["descriptions"] == "templates"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert methods.build(method, tiny_clip, described()).flags["descriptions"] == "given"


def test_descriptions_may_be_read_from_a_folder(tiny_clip, tmp_path):
    import json

    for cause, entries in sentences().items():
        (tmp_path / f"{cause}.json").write_text(json.dumps(entries))
    recipe = methods.build("dvp_cse", tiny_clip, CLASS_NAMES, descriptions=tmp_path, causes=("size", "shape"))
    assert recipe.adapter.prompt.patterns == 2
    assert recipe.flags["descriptions"] == "given"


@pytest.mark.parametrize("method", ["attrvr", "dvp_cse", "dvp_cls", "dvplite", "rvp"])
def test_a_class_without_descriptions_is_named(method, tiny_clip):
    partly = ClassSet((*CLASS_NAMES, "lynx"), descriptions=sentences())
    with pytest.raises(ValueError, match="says nothing about the class 'lynx'"):
        methods.build(method, tiny_clip, partly)


def test_other_classes_need_descriptions_too(tiny_clip, images):
    adapter = methods.build("attrvr", tiny_clip, ClassSet(CLASS_NAMES[:3], descriptions=sentences())).adapter
    assert adapter.set_classes(CLASS_NAMES[3:]).logits(images).shape == (3, 2)
    with pytest.raises(ValueError, match="says nothing about the class 'lynx'"):
        adapter.set_classes(["lynx"])
    with pytest.raises(ValueError, match="cannot speak of other classes"):
        methods.build("dvp_cls", tiny_clip, described()).adapter.set_classes(["lynx", "puma"])


def test_causes_that_do_not_fit_are_explained(tiny_clip):
    only = ClassSet(CLASS_NAMES, descriptions={"des": sentences()["shape"]})
    with pytest.raises(ValueError, match="needs descriptions by cause, but there are only des"):
        methods.build("dvp_cse", tiny_clip, only)
    with pytest.raises(ValueError, match="no set 'wings'; there are shape, colour"):
        methods.build("dvp_cse", tiny_clip, described(), causes=("wings",))
    with pytest.raises(ValueError, match="four causes, but there are 2"):
        methods.build("dvplite", tiny_clip, described(causes=("shape", "colour")))
    with pytest.raises(ValueError, match="weight is the share"):
        methods.build("attrvr", tiny_clip, described(), weight=1.5)
    with pytest.raises(ValueError, match="head_lr must be above 0"):
        methods.build("rvp", tiny_clip, described(), head_lr=0.0)
