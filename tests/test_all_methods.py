"""What must hold of every method in `methods/`, whatever it is."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file, save_file

from cliptune import methods
from cliptune.adapter import Adapter
from cliptune.analysis import record
from cliptune.batch import Batch
from cliptune.clip.weights.openai import OPENAI_CONFIGS
from cliptune.recipe import Recipe
from cliptune.registry import checks
from tests.conftest import CLASS_NAMES

# Values that learn at ViT-B/16 sizes with default options, by the papers' formulas.
LEARNABLES = {
    "zeroshot": 0,
    "linear_probe": 0,  # fitted in closed form, not by gradient
    **dict.fromkeys(("zs_probe", "clap", "lp_plus_plus"), 0),  # trained by the head itself, on features computed once
    **dict.fromkeys(("gda", "ss_text", "proker", "ape"), 0),  # in closed form
    "tda": 0,
    "taskres": 10 * 512,
    "ape_t": 10 * 250,  # and a weight for each image
    "coop": 4 * 512,
    "cocoop": 4 * 512 + (512 * 32 + 32) + (32 * 512 + 512),
    "kgcoop": 4 * 512,
    **dict.fromkeys(("tip_adapter", "tip_adapter_f"), 0),  # the keys come with the images: N · K · D
    "prolip": 768 * 512,
    "mmrl": 5 * 512 + 7 * (512 * 768 + 768) + 7 * (512 * 512 + 512) + 768 * 512,  # 4.99 M
    "mmrl_plus_plus": (  # 0.81 M
        5 * 512 + 512 * (768 + 512) + 7 * (4 * (2 * 512 + 768 + 512) + 768 + 512) + 64 * (768 + 512)
    ),
    "two_stage": 4 * 12 * (768 + 512) + 10 * 512,
    "clip_lora": 12 * 3 * 2 * (2 * 512 + 2 * 768),
    # The default teacher is the student's own CLIP, so that the projector is square.
    "promptkd": 9 * 4 * 768 + 2 * (512 * 512 + 512) + 2 * 512,
    "promptsrc": 9 * 4 * (512 + 768),
    "mmlop": 9 * (4 + 512 + 768),  # 11.5 K
    "vpt": 8 * 768 * 12,
    "ivlp": 2 * 512 * 12 + 2 * 768 * 12,
    "bias_tuning": 2 * 12 * (512 + 768),
    "maple": 9 * 2 * 512 + 9 * (512 * 768 + 768),
}
LEARNABLES |= {
    "vp": 3 * (224**2 - 164**2),
    "acavp": 6 * 224**2 + 7,
    "dga": 5 * 3 * (224**2 - 192**2),
    **dict.fromkeys(("ar", "attrvr", "dvplite"), 3 * (224**2 - 192**2)),
    **dict.fromkeys(("dvp_cse", "dvp_cls"), 3 * 3 * (224**2 - 192**2)),
    "rvp": 3 * (224**2 - 192**2) + 10 * 20 + 10**2,
}
VISUAL = ("acavp", "dga", "vp", "ar", "attrvr", "dvp_cse", "dvp_cls", "dvplite", "rvp")
CLOSED = ("linear_probe", "gda", "proker", "ape", "tip_adapter", "zs_probe", "clap", "ss_text", "lp_plus_plus")
METHODS = methods.names()
# Classes without descriptions: templates stand in for them, and a warning says so.
pytestmark = pytest.mark.filterwarnings("ignore:.*have no descriptions")
LABELS = torch.tensor([0, 3, 1])


@pytest.fixture
def batch(images) -> Batch:
    return Batch.of(images, LABELS)


@pytest.fixture(params=METHODS)
def recipe(request, tiny_clip) -> Recipe:
    return methods.build(request.param, tiny_clip, CLASS_NAMES)


def trained(recipe: Recipe, batch: Batch, steps: int = 2) -> Adapter:
    return checks.trained(recipe, batch, steps)[0]


@pytest.fixture(params=METHODS)
def subject(request, tiny_clip, batch) -> checks.Subject:
    return checks.Subject(request.param, tiny_clip, batch, CLASS_NAMES)


@pytest.mark.parametrize(
    "check", [checks.frozen_clip, checks.gradients, checks.round_trip, checks.new_classes, checks.two_precisions]
)
def test_common_checks_hold(check, subject):
    assert check(subject)


def test_every_learnable_gets_a_gradient_in_the_last_step(recipe, batch):
    # The common check asks for one in some step, because a stage of a stack may leave out learnables of another.
    for name, parameter in trained(recipe, batch).trainable().items():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


def test_every_method_has_a_known_count():
    assert set(METHODS) == set(LEARNABLES), "a new method needs its paper's parameter formula in this test"


@pytest.mark.parametrize("method", METHODS)
def test_learnables_match_the_papers_formula(method):
    assert methods.count_learnables(method, OPENAI_CONFIGS["ViT-B/16"]) == LEARNABLES[method]


def test_counts_with_options_match_the_papers():
    count = lambda method, **options: methods.count_learnables(method, OPENAI_CONFIGS["ViT-B/16"], **options)
    assert count("coop", n_ctx=16, words="") == 8_192
    assert count("coop", n_ctx=16, class_specific=True, classes=7) == 7 * 16 * 512
    assert count("vpt", depth=1) == 8 * 768
    assert count("ivlp", n_text=4, n_image=4, depth_text=9, depth_image=9) == 46_080
    assert count("ivlp", n_text=4, n_image=0) == 24_576
    assert count("promptkd", teacher="a larger CLIP", width=768) == 1_013_760
    assert count("maple", depth=3) == 3 * 2 * 512 + 3 * (512 * 768 + 768)


def test_training_lowers_the_loss(recipe, batch):
    for stage in recipe.stages:
        for begin in stage.before:
            begin(recipe.adapter)
        if stage.optimiser is None:
            checks.observed(recipe.adapter, batch, stage)
            continue

        def loss(stage=stage):
            torch.manual_seed(0)  # of what a prompt draws: the same before and after
            return stage.objective(recipe.adapter(batch, needs=stage.objective.needs), batch, 0.0)[0]

        before = loss().item()
        optimiser = torch.optim.SGD(recipe.adapter.trainable().values(), lr=1e-3)
        for _ in range(5):
            optimiser.zero_grad()
            loss().backward()
            optimiser.step()
        assert loss().item() < before


def test_checkpoint_round_trip_is_strict_and_small(recipe, batch, tmp_path):
    adapter = trained(recipe, batch)
    saved = adapter.learnables()
    save_file(saved, tmp_path / "adapter.safetensors")
    assert not [name for name in saved if "clip" in name or "token" in name.split(".")]
    fresh = methods.build(recipe.method, adapter.clip, CLASS_NAMES, seed=2).adapter
    fresh.load_learnables(load_file(tmp_path / "adapter.safetensors"))
    with adapter.evaluating(), fresh.evaluating(), torch.no_grad():
        assert torch.equal(fresh(batch).logits, adapter(batch).logits)
    if not saved:
        return
    name = next(iter(saved))
    with pytest.raises(ValueError, match=f"missing .*{name}"):
        fresh.load_learnables({k: v for k, v in saved.items() if k != name})
    with pytest.raises(ValueError, match="unexpected .*prompt.other"):
        fresh.load_learnables({**saved, "prompt.other": torch.zeros(1)})
    with pytest.raises(ValueError, match="must have shape"):
        fresh.load_learnables({**saved, name: torch.zeros(1, 2, 3, 4)})


@pytest.mark.parametrize("method", METHODS)
def test_same_seed_same_numbers(method, tiny_clip, batch):
    first, second, other = (methods.build(method, tiny_clip, CLASS_NAMES, seed=s) for s in (3, 3, 4))
    a, b = trained(first, batch).learnables(), trained(second, batch).learnables()
    assert all(torch.equal(value, b[name]) for name, value in a.items())
    random_start = methods.build(method, tiny_clip, CLASS_NAMES, seed=3).adapter.learnables()
    differs = [name for name, value in other.adapter.learnables().items() if not torch.equal(value, random_start[name])]
    still = ("zeroshot", *CLOSED, "coop", "kgcoop", "tip_adapter_f", "ape_t", "taskres", "bias_tuning", *VISUAL)
    assert method in (*still, "prolip", "two_stage") or differs


def test_recording_changes_nothing_and_leaves_nothing(recipe, batch):
    adapter = recipe.adapter
    adapter.eval()
    if recipe.stages and recipe.stages[0].optimiser is None:
        trained(recipe, batch)
    with torch.no_grad():
        before = adapter(batch).logits
        with record(adapter, image=[0, 1, 2], text=[0, 3]):
            torch.testing.assert_close(adapter(batch).logits, before, rtol=1e-3, atol=1e-3)
        assert torch.equal(adapter(batch).logits, before)


def test_precomputed_features_change_nothing(recipe, batch):
    adapter = trained(recipe, batch)
    with adapter.evaluating(), torch.no_grad():
        whole = adapter(batch)
        text = adapter.text_features()
        torch.testing.assert_close(adapter(batch, text_features=text).logits, whole.logits)
        if adapter.image_is_frozen:
            known = adapter(batch, image_embedding=whole.image_embedding)
            torch.testing.assert_close(known.logits, whole.logits)


def test_logits_takes_pictures_and_tensors(recipe, batch):
    from PIL import Image

    adapter = trained(recipe, batch)
    pictures = [Image.fromarray((image.permute(1, 2, 0) * 255).byte().numpy()) for image in batch.images]
    as_bytes = (batch.images * 255).byte()
    # Where the adapter wants smaller images, Pillow rounds to bytes after resizing and tensors are not rounded.
    loose = {} if adapter.resolution == adapter.clip.image.resolution else {"rtol": 0.0, "atol": 0.5}
    torch.testing.assert_close(adapter.logits(pictures), adapter.logits(as_bytes), **loose)
    assert adapter.logits(torch.rand(2, 3, 50, 41)).shape == (2, len(CLASS_NAMES))
    with pytest.raises(ValueError, match="not be normalised"):
        adapter.logits(adapter.clip.normalise(batch.images))


def test_a_resnet_works_or_says_why_not(tiny_resnet, recipe):
    try:
        built = methods.build(recipe.method, tiny_resnet, CLASS_NAMES)
    except ValueError as error:
        assert "Use a ViT backbone" in str(error)  # noqa: PT017
        return
    adapter = trained(built, Batch.of(torch.rand(3, 3, 64, 64), LABELS))
    assert adapter.logits(torch.rand(2, 3, 64, 64)).shape == (2, len(CLASS_NAMES))


@pytest.mark.parametrize("method", METHODS)
def test_listing_is_complete(method):
    info = methods.describe(method)
    assert info.summary.endswith(")")
    assert info.paper.replace(".", "").isdigit() or info.name in ("dga", "rvp")  # no arXiv id is known
    assert info.enters
    for protocol in ("few_shot", "base2new", "cross"):
        try:
            options = methods.published_options(method, protocol, shots=16)
        except ValueError as error:
            assert "no published recipe" in str(error)  # noqa: PT017
        else:
            assert set(options) <= set(info.options)


def test_unknown_method_option_and_add_on_name_the_nearest(tiny_clip):
    with pytest.raises(ValueError, match="Did you mean maple"):
        methods.build("mapel", tiny_clip, CLASS_NAMES)
    with pytest.raises(ValueError, match=r"no method 'CLIP-LoRA'. Did you mean clip_lora\?"):
        methods.build("CLIP-LoRA", tiny_clip, CLASS_NAMES)
    with pytest.raises(ValueError, match="no option 'nctx'. Did you mean n_ctx"):
        methods.build("coop", tiny_clip, CLASS_NAMES, nctx=3)
    with pytest.raises(ValueError, match="exactly one method"):
        methods.build("coop+vpt", tiny_clip, CLASS_NAMES)


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("vpt", {"n_ctx": 0}),
        ("vpt", {"n_ctx": -1}),
        ("promptkd", {"n_ctx": 0}),
        ("promptsrc", {"n_image": 0}),
        ("ivlp", {"n_image": -1}),
        ("mmlop", {"n_ctx": 0}),
        ("mmlop", {"rank": 0}),
        ("kgcoop", {"weight": -1.0}),
        ("kgcoop", {"weight": float("nan")}),
        ("tip_adapter", {"views": 0}),
        ("gda", {"views": -1}),
        ("gda", {"alpha": 0.0}),
        ("clap", {"views": -1}),
        ("zs_probe", {"lr": 0.0}),
        ("lp_plus_plus", {"views": -1}),
        ("lp_plus_plus", {"epochs": 0}),
        ("taskres", {"alpha": 0.0}),
        ("prolip", {"weight": -1.0}),
        ("ape", {"views": -1}),
        ("ape", {"share": 0.0}),
        ("ape", {"gamma": -0.1}),
        ("ape_t", {"balance": 1.5}),
        ("proker", {"views": -1}),
        ("proker", {"beta": 0.0}),
        ("proker", {"ridge": -1.0}),
        ("coop+rlp", {"rlp_rank": -1}),
        ("coop+rlp", {"rlp_rank": 0, "rlp_shared": True}),
        ("clip_lora", {"projections": "qq"}),
        ("dga", {"levels": -1}),
        ("dga", {"scales": -1}),
        ("dga", {"crops": 0}),
        ("dga", {"step": 0}),
        ("dga", {"step": 99}),
        ("dga", {"weight": 1.1}),
        ("dga", {"threshold": 0.0}),
        ("tda", {"alpha": 0.0}),
        ("tda", {"beta": float("nan")}),
        ("tda", {"shots": 0}),
        ("tda", {"negative_alpha": -1.0}),
    ],
)
def test_numbers_out_of_range_are_a_sentence(method, options, tiny_clip):
    (name,) = set(options) - {"rlp_shared"}
    with pytest.raises(ValueError, match=rf"{name} must be|{name} must name"):
        methods.build(method, tiny_clip, CLASS_NAMES, **options)
