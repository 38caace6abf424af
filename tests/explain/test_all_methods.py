"""Every explanation of every method and add-on: an answer, or a sentence why there is none."""

from __future__ import annotations

import json

import pytest

from cliptune import methods
from cliptune.explain import OpenedRun, explain

pytestmark = pytest.mark.filterwarnings("ignore:.*have no descriptions")
STACKS = [f"maple+{name}" for name in methods.add_ons()]
# Their first epoch counts votes.
TWO_EPOCHS = ("dvp_cse", "dvp_cls", "dvplite")
# Drawing takes most of the time; between them, these draw every picture.
DRAWN = ("cocoop", "dvp_cse", "maple+dpc", "maple+rlp")


def check(answers) -> None:
    for name, answer in answers.items():
        assert answer.sentence.endswith((".", "?")), (name, answer.sentence)
        assert "Traceback" not in answer.sentence
        json.dumps(answer.to_json(), allow_nan=False)
        if answer.found is None:
            assert answer.why_not
            assert not answer.pictures


@pytest.mark.parametrize("method", [*methods.names(), *STACKS])
def test_every_question_is_answered_or_said_not_to_apply(opened, method):
    options = {"epochs": 2} if method in TWO_EPOCHS else {}
    check(explain(opened(method, images=3, **options), draw=method in DRAWN))


def test_a_resnet_has_no_tokens_and_says_so(opened, tiny_resnet):
    run = opened("zeroshot")
    adapter = methods.build("coop", tiny_resnet, run.class_names).adapter.eval()
    answers = explain(OpenedRun(run.folder, adapter, images=6))
    check(answers)
    assert "has no tokens" in answers["contributions"].found.why_not["image"]
    assert answers["attention"].found.image is None
    assert "image tower" in answers["prompt-patches"].why_not
    assert answers["words"].found is not None
    assert set(answers["rescaling-or-bias"].found.parts) == {"text"}
