"""An opened run: its images and answers."""

from __future__ import annotations

import pytest
import torch

from cliptune import protocols
from cliptune.data import DataSpec
from cliptune.explain import OpenedRun, explain
from cliptune.runs import RunSpec
from cliptune.training import evaluate
from tests.data.pictures import noise


def test_answers_are_those_of_an_evaluation(opened):
    run = opened("coop", images=30)
    answers = run.answers()
    scored = evaluate(run.adapter, run.split(), keep_logits=True)
    assert torch.allclose(answers.logits, scored.logits, atol=1e-4)
    assert answers.labels.equal(run.split().labels)
    assert torch.allclose(answers.text @ answers.features.T * run.adapter.clip.scale, answers.logits.T, atol=1e-3)


def test_images_are_drawn_once_and_miss_no_class_that_recurs(opened):
    run, again = (opened("zeroshot", images=100) for _ in range(2))
    assert len(run.own().images) > len(run.split()) == 100
    assert run.split().ids == again.split().ids
    assert set(run.split().labels.tolist()) == set(range(len(run.class_names)))


def test_train_images_are_those_it_learned_from(opened):
    run = opened("coop")
    assert len(run.own("train").images) == 2 * len(run.class_names)


def test_no_image_asked_for_is_a_sentence(runs):
    with pytest.raises(ValueError, match="at least one image"):
        OpenedRun.open(runs("zeroshot"), images=0)


def test_the_classes_of_another_data_set_are_a_sentence(tmp_path):
    for i in range(6):
        noise(i).save(tmp_path / f"{i}.png")

    def lists(*names):
        lines = [f"{i}.png,{names[i % len(names)]}" for i in range(6)]
        (tmp_path / "list.csv").write_text("image,class\n" + "\n".join(lines))

    lists("cat", "dog")
    data = DataSpec.found(str(tmp_path / "list.csv"))
    protocols.run(RunSpec("zeroshot", data), tmp_path / "run")
    lists("cat", "dog", "elk")
    before = sorted(tmp_path.rglob("*"))
    answer = explain(OpenedRun.open(tmp_path / "run"), ["confusion"])["confusion"]
    assert "'elk'" in answer.why_not
    assert "another data set" in answer.why_not
    assert sorted(tmp_path.rglob("*")) == before
