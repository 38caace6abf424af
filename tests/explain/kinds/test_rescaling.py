"""`rescaling-or-bias` of finished runs."""

from __future__ import annotations

import pytest

from cliptune.explain import explain
from cliptune.training import evaluate


def test_full_is_the_runs_accuracy_and_pictures_are_made(opened):
    run = opened("maple", images=20, depth=2)
    answer = explain(run, ["rescaling-or-bias"])["rescaling-or-bias"]
    accuracy = evaluate(run.adapter, run.split()).accuracy
    found = answer.found.ablations
    assert all(of["full"] == pytest.approx(accuracy) for of in found.accuracy.values())
    assert found.remainder < 1e-2
    assert all(len(curve) == 1 + blocks for blocks, tower in ((3, "text"), (4, "image"))
               for curve in found.profile[tower].values())  # fmt: skip
    assert list(answer.pictures) == ["models", "depth", "text", "image"]
    assert answer.found.parts["image"].n == 20


@pytest.mark.parametrize("method", ["zeroshot", "bias_tuning"])
def test_without_prompt_tokens_it_says_so(opened, method):
    assert "No prompt tokens" in explain(opened(method), ["rescaling-or-bias"])["rescaling-or-bias"].why_not
