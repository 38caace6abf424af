"""Every explanation of every method and add-on, on a ViT and a ResNet: an answer, or a sentence why there is none."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest

from cliptune import methods, protocols
from cliptune.data import DataSpec
from cliptune.explain import OpenedRun, explain, kinds
from cliptune.registry import describe
from cliptune.runs import RunSpec, load
from tests.data.pictures import write_classes

pytestmark = pytest.mark.filterwarnings("ignore:.*have no descriptions")
ON_A_VIT = [*methods.names(), *(f"maple+{name}" for name in methods.add_ons())]
ON_A_RESNET = [*methods.names(), *(f"coop+{name}" for name in methods.add_ons())]
# Their first epoch counts votes.
TWO_EPOCHS = ("dvp_cse", "dvp_cls", "dvplite")
# Drawing takes most of the time; between them, these draw every picture.
DRAWN = ("cocoop", "dvp_cse", "maple+dpc", "maple+rlp")
# What a ResNet has no place for: tokens, biases, weight changes and patches of blocks of its image tower.
NEED_BLOCKS = {"vpt", "ivlp", "maple", "mmlop", "promptsrc", "promptkd", "bias_tuning", "clip_lora", "bias", "dapt"}
NEED_BLOCKS |= {"two_stage", "mmrl", "mmrl_plus_plus", "textrefiner"}


@pytest.fixture(scope="module")
def noise(tmp_path_factory):
    """Four classes of noise, two of which are trained on."""
    root = tmp_path_factory.mktemp("noise") / "pictures"
    write_classes(root, {"fish": 8, "heart": 8, "ring": 8, "star": 8})
    return str(root)


@pytest.fixture
def run(noise, tmp_path):
    """A method trained on one picture of two classes for an epoch, opened to look at a few pictures."""

    def opened(method, clip, images=3):
        host = method.split("+")[0]
        # The rates of visual reprogramming are large, and noise makes a random ResNet diverge with them.
        asked = {"epochs": 2 if host in TWO_EPOCHS else 1, "lr": 1e-3}
        options = {name: value for name, value in asked.items() if name in describe(host).options}
        spec = RunSpec(method, replace(DataSpec.found(noise), shots=1, classes="base"), "base2new", options=options)
        protocols.run(spec, tmp_path / "run", clip=clip, progress="silent")
        return OpenedRun(tmp_path / "run", load(tmp_path / "run", clip=clip), images=images)

    return opened


def check(answers) -> None:
    assert answers.keys() == kinds().keys()
    for name, answer in answers.items():
        assert answer.sentence.endswith((".", "?")), (name, answer.sentence)
        assert "Traceback" not in answer.sentence
        json.dumps(answer.to_json(), allow_nan=False)
        if answer.found is None:
            assert answer.why_not
            assert not answer.pictures
        for caption in answer.captions.values():
            assert re.search(r"\d.*\.$", caption), (name, caption)
        assert not answer.pictures or answer.captions.keys() <= answer.pictures.keys(), name
        assert len(answer.pictures) < 2 or answer.captions.keys() == answer.pictures.keys(), name


@pytest.mark.parametrize("method", ON_A_VIT)
def test_every_question_is_answered_or_said_not_to_apply(run, tiny_clip, method):
    check(explain(run(method, tiny_clip), draw=method in DRAWN))


@pytest.mark.parametrize("method", ON_A_RESNET)
def test_the_same_of_a_resnet(run, tiny_resnet, method):
    if NEED_BLOCKS & set(method.split("+")):
        with pytest.raises(ValueError, match="ResNet"):
            run(method, tiny_resnet)
        return
    answers = explain(run(method, tiny_resnet), draw=method == "coop")
    check(answers)
    assert answers["attention"].found.image is None
    assert "image tower" in answers["prompt-patches"].why_not
    assert "has no tokens" in answers["contributions"].sentence


def test_a_resnet_still_tells_of_its_texts(run, tiny_resnet):
    answers = explain(run("coop", tiny_resnet), ["words", "rescaling-or-bias", "grad-cam"])
    assert answers["words"].found is not None
    assert set(answers["rescaling-or-bias"].found.parts) == {"text"}
    assert answers["grad-cam"].found is not None
