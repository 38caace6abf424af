"""The data files of published settings: each loads, fits its method's constructor and trains."""

from __future__ import annotations

import warnings

import pytest
import torch

import cliptune
from cliptune import methods
from cliptune.clip.weights.openai import OPENAI_CONFIGS
from cliptune.data.published.facts import published
from cliptune.data.tinyworld import load_suite
from cliptune.registry.building import find
from cliptune.registry.checks import on_a_host
from cliptune.registry.recipes import CERTAINTY, PROTOCOLS, read_recipes

# Tinyworld has fewer sentences for some causes than the papers draw.
pytestmark = pytest.mark.filterwarnings("ignore:Descriptions.*fewer than m")
NAMES = (*methods.names(), *methods.add_ons())
# An add-on trains on the hosts that its papers name, or else on one of its kind.
HOSTS = {"rlp": ("coop", "maple"), "bias": ("zeroshot",), "dapt": ("maple", "promptsrc")}
HOSTS |= {"dpc": ("coop", "maple", "promptsrc", "promptkd"), "dept": ("coop", "cocoop", "kgcoop", "maple")}
HOSTS |= {"atprompt": ("coop", "cocoop", "maple"), "textrefiner": ("coop",)}
STACKS = [f"{host}+{add_on}" for add_on, hosts in HOSTS.items() for host in hosts]
CASES = [
    (method, protocol)
    for method in (*methods.names(), *STACKS, "maple+rlp+dpc", "maple+dapt+dpc")
    for protocol in PROTOCOLS
    if all(protocol in methods.recipes_of(part) for part in method.split("+"))
]


@pytest.fixture(scope="module")
def mini():
    return cliptune.load_clip("mini")


@pytest.fixture(scope="module")
def suite():
    """A few classes with descriptions by cause, and a training image of each."""
    return load_suite("flowers", train=1, val=1, test=1).subset("base").subset("base")


@pytest.mark.parametrize("name", NAMES)
def test_every_file_loads_and_says_where_its_values_are_from(name):
    for protocol, entries in methods.recipes_of(name).items():
        assert protocol in PROTOCOLS
        for entry in entries:
            assert entry.source
            assert entry.certainty in CERTAINTY
            assert set(entry.data) <= set(published())
            assert set(entry.backbone) <= set(OPENAI_CONFIGS)


def test_every_method_and_add_on_has_a_recipe():
    assert [name for name in NAMES if not methods.recipes_of(name)] == []


@pytest.mark.parametrize(("method", "protocol"), CASES)
def test_a_recipe_trains_two_epochs(method, protocol, mini, suite):
    options = methods.published_options(method, protocol, shots=2)
    short = {key: 2 for key in options if key.endswith("epochs")} | ({"epochs": 2} if "epochs" in options else {})
    if "steps_per_shot" in options:
        short |= {"steps_per_shot": 0, "epochs": 2}
    classes = cliptune.texts.ClassSet(suite.class_names, suite.template, suite.descriptions)
    recipe = methods.build(method, mini, classes, **{**options, **short})
    before = {name: value.clone() for name, value in recipe.adapter.trainable().items()}
    run = cliptune.fit(recipe, suite, progress="silent")
    moved = [name for name, value in run.adapter.trainable().items() if not torch.equal(value, before.get(name, value))]
    assert all(torch.isfinite(value).all() for value in run.adapter.learnables().values())
    assert moved or not before or method.endswith("dpc")


@pytest.mark.parametrize("name", NAMES)
def test_values_for_one_data_set_or_backbone_fit_the_constructor(name, mini):
    for protocol, entries in methods.recipes_of(name).items():
        cases = {(data, None) for entry in entries for data in entry.data}
        cases |= {(None, backbone) for entry in entries for backbone in entry.backbone}
        for data, backbone in cases:
            options = methods.published_options(name, protocol, 16, data=data, backbone=backbone)
            find(name).Config(**options)
            whole = on_a_host(name)
            if "causes" not in options:  # these need the descriptions of that data set
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    methods.build(whole, mini, ["cat", "dog"], **options)


# -- which values hold ------------------------------------------------------------------------------------------------


def test_epochs_follow_the_shots_and_the_data_set():
    epochs = lambda *case, **more: methods.published_options("coop", *case, **more)["epochs"]
    assert [epochs("few_shot", shots) for shots in (1, 2, 4, 8, 16, None)] == [50, 100, 100, 200, 200, 200]
    assert [epochs("few_shot", shots, data="ImageNet") for shots in (1, 16)] == [50, 50]
    assert (epochs("base2new"), epochs("base2new", data="imagenet"), epochs("cross")) == (200, 50, 50)


@pytest.mark.parametrize(
    ("method", "data", "expected"),
    [
        ("promptsrc", "Flowers102", {"gpa_mean": 45.0, "gpa_std": 5.0, "epochs": 50}),
        ("promptsrc", "oxford-pets", {"gpa_mean": 30.0, "gpa_std": 30.0, "epochs": 50}),
        ("dvp_cls", "eurosat", {"clusters": 1}),
        ("dvp_cls", "food", {"clusters": 2}),
        ("dvp_cls", "tinyworld/objects", {"clusters": 3}),
        ("dvp_cse", "fgvc", {"causes": ("cause 1", "cause 2", "cause 3")}),
        ("tip_adapter", "flowers", {"alpha": 10.0, "alpha_max": 50.0, "beta_max": 50.0}),
        ("tip_adapter_f", "EuroSAT", {"epochs": 100, "alpha": 2.0}),
        ("tip_adapter_f", "cars", {"epochs": 20, "alpha": 3.0}),
        ("kgcoop", "dtd", {"anchor": "a photo of a {}, a type of texture."}),
    ],
)
def test_values_of_single_data_sets(method, data, expected):
    options = methods.published_options(method, "few_shot", 16, data=data)
    assert {key: options[key] for key in expected} == expected


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ("dtd", (2.0, 3.0, None, "")),
        ("caltech101", (5.0, None, None, "selected7")),
        ("imagenet", (2.0, 5.0, None, "selected7")),
        ("imagenet-a", (2.0, 5.0, 63, "selected7")),
        ("imagenetv2", (1.0, 8.0, 63, "selected7")),
        ("imagenet-r", (1.0, 8.0, 63, "imagenet80")),
        ("imagenet-sketch", (2.363, 7.45, 63, "imagenet80")),
    ],
)
def test_shifted_imagenets_have_views_and_sentences_of_their_own(data, expected):
    """Of TDA's release: configs/*.yaml, and `template` in datasets/*.py."""
    options = methods.published_options("tda", "cross", data=data, backbone="ViT-B/16")
    alpha, beta, views, templates = expected
    assert options["alpha"] == alpha
    assert options["beta"] == (5.0 if beta is None else beta)
    assert options.get("views") == views
    assert options.get("templates", "") == templates


@pytest.mark.parametrize("method", ["gda", "prolip", "lp_plus_plus", "tip_adapter", "taskres"])
def test_imagenet_is_worded_in_seven_sentences(method):
    assert methods.published_options(method, "few_shot", 16, data="imagenet")["templates"] == "selected7"
    assert "templates" not in methods.published_options(method, "few_shot", 16, data="dtd")


def test_a_data_set_is_known_by_its_folder(tmp_path):
    (tmp_path / "pictures" / "2750" / "River").mkdir(parents=True)
    (tmp_path / "pictures" / "split_zhou_EuroSAT.json").write_text("{}")
    assert methods.published_options("dvp_cls", "few_shot", data=str(tmp_path / "pictures"))["clusters"] == 1


def test_the_distillation_weight_and_the_teachers_backbone():
    weight = lambda data: methods.published_options("promptkd", "base2new", data=data)["weight"]
    assert [weight(data) for data in ("dtd", "fgvc_aircraft", "oxford_flowers", "ucf101")] == [200, 200, 200, 1000]
    teacher = methods.published_options("promptsrc", "base2new", backbone="vit_l14")
    assert (teacher["lr"], teacher["batch_size"]) == (5e-3, 8)
    assert methods.published_options("promptsrc", "base2new", backbone="ViT-B/16")["batch_size"] == 4


# -- stacks -----------------------------------------------------------------------------------------------------------


def test_a_stack_has_the_values_of_its_parts_and_the_add_on_has_the_last_word_on_its_host():
    host = methods.published_options("maple", "base2new")
    stack = methods.published_options("maple+dpc", "base2new")
    assert (host["epochs"], host["batch_size"]) == (5, 4)
    assert (stack["epochs"], stack["batch_size"], stack["n_ctx"]) == (20, 32, host["n_ctx"])
    assert (stack["dpc_base_weight"], stack["dpc_epochs"]) == (1.0, 20)
    assert methods.published_options("coop+dpc", "base2new")["dpc_base_weight"] == 0.2
    assert stack == methods.published_options("dpc+maple", "base2new")
    # dapt acts before dpc, so dpc's word on the host comes last
    assert methods.published_options("maple+dpc+dapt", "base2new")["batch_size"] == 32


def test_an_add_on_may_speak_for_a_host_without_a_recipe(monkeypatch):
    import cliptune.registry.recipes as published_recipes

    whole = published_recipes.recipes_of
    monkeypatch.setattr(published_recipes, "recipes_of", lambda name: {} if name == "maple" else whole(name))
    assert methods.published_options("maple+dapt", "few_shot")["epochs"] == 10
    with pytest.raises(ValueError, match="no published recipe of maple for 'few_shot' is known"):
        methods.published_options("maple+rlp", "few_shot")


def test_shifted_domains_take_the_recipe_of_transfer():
    assert methods.published_options("maple", "domains") == methods.published_options("maple", "cross")


@pytest.mark.parametrize(
    ("method", "protocol", "sentence"),
    [
        ("vpt", "cross", r"vpt: no published recipe for 'cross' is known \(known: base2new\)"),
        ("coop+dpc", "few_shot", r"no published recipe of dpc for 'few_shot' is known \(known: base2new\)"),
        ("linear_probe+rlp", "base2new", "recipe of linear_probe for"),
        ("coop", "zero", r"known: few_shot, base2new, cross\)"),
    ],
)
def test_an_unknown_recipe_is_a_sentence_that_says_which_are_known(method, protocol, sentence):
    with pytest.raises(ValueError, match=sentence):
        methods.published_options(method, protocol)


# -- bad files --------------------------------------------------------------------------------------------------------

GOOD = 'source = "a paper"\ncertainty = "code"\n'


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("coop", "[[few_shot", "coop.toml: expected TOML, but"),
        ("coop", "[[fewshot]]\n" + GOOD + "options = {}", r"expected \[\[few_shot\]\].*got 'fewshot'"),
        ("coop", "[[few_shot]]\noptions = {}", "source and certainty must be given"),
        ("coop", "[[few_shot]]\n" + GOOD + "options = { n_ct = 4 }", "there is no 'n_ct'. Did you mean n_ctx"),
        ("coop", "[[few_shot]]\n" + GOOD + 'options = { n_ctx = "4" }', "n_ctx must be int, got '4'"),
        ("coop", "[[few_shot]]\n" + GOOD + "options = { n_ctx = true }", "n_ctx must be int, got True"),
        ("coop", "[[few_shot]]\n" + GOOD + "options = 4", "options must be a table"),
        ("coop", "[[few_shot]]\n" + GOOD + "options = {}\nshot = 4", "there is no 'shot'. Did you mean"),
        ("coop", '[[few_shot]]\nsource = "x"\ncertainty = "sure"\noptions = {}', "certainty must be .*got 'sure'"),
        ("coop", "[[few_shot]]\n" + GOOD + 'options = {}\ndata = ["pets"]', "data names 'pets'.*oxford_pets"),
        ("coop", "[[few_shot]]\n" + GOOD + 'options = {}\nbackbone = ["B/16"]', "backbone names 'B/16'"),
        ("dpc", "[[base2new]]\n" + GOOD + 'options = { epochs = 3 }\nhost = ["zeroshot"]', "there is no 'epochs'"),
        ("dpc", "[[base2new]]\n" + GOOD + 'options = {}\nhost = ["mapel"]', "host names 'mapel'.*Did you mean maple"),
        ("dvp_cse", "[[few_shot]]\n" + GOOD + 'options = { causes = "shape" }', "causes must be tuple"),
    ],
)
def test_a_bad_file_is_a_sentence_that_names_the_place(name, text, sentence):
    with pytest.raises(ValueError, match=sentence):
        read_recipes(text, name)


@pytest.mark.parametrize("text", ["a = " + "[" * 5000, "a = " + "9" * 5000, "a = 9999-99-99", "a = ["])
def test_text_that_is_no_toml_is_one_sentence(text):
    with pytest.raises(ValueError, match=r"coop\.toml: expected TOML, but .*\. Correct the file") as raised:
        read_recipes(text, "coop")
    assert type(raised.value) is ValueError
    assert "\n" not in str(raised.value)
