"""An opened run: its images and answers."""

from __future__ import annotations

import pytest
import torch

from cliptune.explain import OpenedRun
from cliptune.training import evaluate


def test_answers_are_those_of_an_evaluation(opened):
    run = opened("coop", images=30)
    answers = run.answers()
    scored = evaluate(run.adapter, run.split(), keep_logits=True)
    assert torch.allclose(answers.logits, scored.logits, atol=1e-4)
    assert answers.labels.equal(run.split().labels)
    assert torch.allclose(answers.text @ answers.features.T * run.adapter.clip.scale, answers.logits.T, atol=1e-3)


def test_images_are_spread_over_the_split(opened):
    run = opened("zeroshot", images=24)
    assert len(run.split()) == 24
    assert len(run.own().images) > 24
    assert {run.split().ids[0], run.split().ids[-1]} == {run.own().images.ids[0], run.own().images.ids[-1]}


def test_train_images_are_those_it_learned_from(opened):
    run = opened("coop")
    assert len(run.own("train").images) == 2 * len(run.class_names)


def test_no_image_asked_for_is_a_sentence(runs):
    with pytest.raises(ValueError, match="at least one image"):
        OpenedRun.open(runs("zeroshot"), images=0)
