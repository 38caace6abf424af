import itertools
import json
from dataclasses import replace

import numpy as np
import pytest

from cliptune import timing
from cliptune.choosing import Candidate, Candidates, choose, corrected, stratified_folds
from cliptune.choosing import choice as choose_module
from cliptune.choosing.deadline import Deadline, OutOfTime
from cliptune.data.items import Dataset
from cliptune.registry import build
from cliptune.runs.jsonable import jsonable
from cliptune.training import evaluate, fit
from tests.training.support import few, squares

ZERO, PROBE, GDA = Candidate("zeroshot"), Candidate("linear_probe"), Candidate("gda")
COOP = Candidate("coop", {"epochs": 2}, {"views": 1})


def among(*tried: Candidate) -> Candidates:
    return Candidates(tried, (ZERO,), GDA)


def chosen(clip, data: Dataset, *tried: Candidate, **how):
    return choose(clip, data, among(*tried), **how)


def test_scores_are_those_of_adapters_trained_without_the_part_that_is_scored(tiny_clip):
    data = squares()
    choice = chosen(tiny_clip, data, ZERO, PROBE, GDA, folds=3)
    cut = stratified_folds(data.train.labels.tolist(), 1, 3)
    right = {}
    for candidate in (ZERO, PROBE, GDA):
        answers = np.zeros(len(data.train), dtype=bool)
        for fold, held in enumerate(cut.held):
            part = data.with_picks(cut.rest(fold), range(len(data.val)), {})
            run = fit(build(candidate.method, tiny_clip, data.class_names), part, progress="silent")
            logits = evaluate(run.adapter, data.train.subset(held), keep_logits=True).logits
            answers[list(held)] = (logits.argmax(-1) == data.train.labels[list(held)]).numpy()
        right[candidate.method] = answers
    for score in choice.scores:
        expected = right[score.candidate.method]
        assert score.accuracy == pytest.approx(100 * expected.mean())
        assert score.folds == pytest.approx([100 * expected[list(held)].mean() for held in cut.held])
        low, high = score.interval
        assert low <= score.accuracy <= high
    assert choice.chosen.method == max(right, key=lambda method: right[method].mean())
    estimate = corrected(np.stack(list(right.values()), axis=1), seed=1)
    assert choice.estimate.estimate == pytest.approx(100 * estimate.estimate)
    assert choice.images == len(data.train)
    assert choice.folds == 3


def test_test_and_validation_images_are_never_scored(tiny_clip, monkeypatch):
    data, scored = squares(), []
    plain = choose_module.evaluate

    def noted(adapter, split, **how):
        scored.extend(split.ids)
        return plain(adapter, split, **how)

    monkeypatch.setattr(choose_module, "evaluate", noted)
    chosen(tiny_clip, data, ZERO, GDA)
    assert set(scored) == set(data.train.ids)
    without = replace(data, test=data.test.subset([]), val=data.val.subset([]))
    assert (
        chosen(tiny_clip, data, ZERO, GDA).summary()["tried"][1]["accuracy"]
        == (chosen(tiny_clip, without, ZERO, GDA).summary()["tried"][1]["accuracy"])
    )


def test_the_same_seed_gives_the_same_choice_and_plain_values(tiny_clip):
    def told(seed):
        summary = chosen(tiny_clip, squares(), ZERO, GDA, COOP, seed=seed).summary()
        for place in (summary, *summary["tried"]):
            del place["seconds"]
        return json.dumps(jsonable(summary))

    assert told(1) == told(1)


def test_of_equals_the_first_is_taken(tiny_clip):
    first, second = Candidate("zeroshot"), Candidate("zeroshot", {"templates": ""})
    choice = chosen(tiny_clip, squares(), first, second)
    assert choice.scores[0].accuracy == choice.scores[1].accuracy
    assert choice.chosen is first


def test_methods_that_can_speak_of_new_classes_are_preferred_if_asked(tiny_clip, monkeypatch):
    data = squares()
    freely = chosen(tiny_clip, data, ZERO, PROBE)
    assert [score.new_classes for score in freely.scores] == [True, False]
    assert freely.chosen is PROBE
    later = chosen(tiny_clip, data, ZERO, PROBE, classes_later=True)
    assert later.chosen is ZERO
    assert "can be asked about other classes later" in later.why
    (note,) = later.notes
    assert note.startswith("linear_probe was right more often, ")
    alone = chosen(tiny_clip, data, PROBE, classes_later=True)
    assert alone.chosen is PROBE
    assert alone.notes == (
        "No method that was tried can be asked about other classes later, so the best of the others is taken.",
    )


def test_without_two_images_of_any_class_nothing_is_compared(tiny_clip):
    choice = chosen(tiny_clip, few((1, 1, 1)), ZERO, PROBE)
    assert choice.chosen is GDA
    assert choice.estimate is None
    assert choice.scores == ()
    assert choice.why == (
        "No class of squares has two training images to hold one out, so gda is taken without a comparison, and "
        "nothing is known of how good it is."
    )


def test_an_image_that_is_alone_in_its_class_is_always_trained_on(tiny_clip):
    choice = chosen(tiny_clip, few((4, 1, 3)), ZERO, GDA)
    assert choice.images == 7
    assert choice.notes == (
        "Classes with one training image, which is always trained on, so that the choice does not see how well they "
        "are told apart: 'green'.",
    )


def test_no_training_images_are_an_error(tiny_clip):
    data = squares({"test": 2})
    with pytest.raises(ValueError, match="squares has no training images to choose a method on"):
        chosen(tiny_clip, data, ZERO)


def test_what_cannot_be_tried_is_left_out_with_its_sentence(tiny_clip, tiny_resnet):
    odd = Candidate("gda", {"alpha": -1.0})
    choice = chosen(tiny_clip, squares(), ZERO, odd)
    assert choice.chosen is ZERO
    assert choice.scores[1].left_out.startswith("gda (alpha=-1.0) was left out: GaussianHead: alpha must be above 0")
    resnet = chosen(tiny_resnet, squares(side=64), ZERO, Candidate("vpt"))
    assert resnet.scores[1].left_out.startswith("vpt was left out: ")


def test_what_does_not_fit_the_time_is_left_out_and_said(tiny_clip, monkeypatch):
    """Every look at the clock is a second: training takes many of them, a head takes few."""
    ticks = itertools.count()
    monkeypatch.setattr(timing.time, "monotonic", lambda: next(ticks))
    long = Candidate("coop", {"epochs": 5000, "batch_size": 2}, {"views": 1})
    choice = chosen(tiny_clip, squares(), ZERO, GDA, long, seconds=2000)
    assert [score.accuracy is None for score in choice.scores] == [False, False, True]
    assert choice.chosen in (ZERO, GDA)
    assert "coop (epochs=5000, batch_size=2, views=1) was left out: in 5 parts and on all images it would take " in (
        choice.scores[2].left_out
    )
    assert "of 33 min 20 s are left." in choice.scores[2].left_out


def test_where_nothing_fits_the_time_the_untried_one_is_taken_and_it_is_said(tiny_clip):
    choice = chosen(tiny_clip, squares(), ZERO, seconds=1e-6)
    assert choice.chosen is GDA
    assert choice.estimate is None
    assert choice.why.startswith("No candidate could be tried in the time, so gda is taken without a comparison")
    assert choice.scores[0].left_out


def test_a_training_is_stopped_once_its_pace_is_too_slow(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(timing.time, "monotonic", lambda: now[0])
    deadline = Deadline(left=100, times=2)
    now[0] = 4.0  # before the first step
    deadline.start(total=45, done=0)
    for step in (9.0, 0.5, 0.5, 0.5, 0.5):  # the first one embeds images: 15 s, and 40 steps of half a second
        now[0] += step
        deadline.advance("train")
    for _ in range(3):
        now[0] += 0.7
        deadline.advance("train")  # of 8 steps the middle one takes 0.7 s: 17.1 s, and 25.9 s more
    now[0] += 20.0
    with pytest.raises(OutOfTime) as caught:
        deadline.advance("train")  # the ninth: 37.1 s, and 36 of 0.7 s
    assert caught.value.needed == pytest.approx(2 * (37.1 + 36 * 0.7))


def test_options_of_all_and_progress_reach_every_candidate(tiny_clip):
    told = []
    choice = chosen(
        tiny_clip, squares(), ZERO, GDA, options={"template": "{} of many colours."}, told=told.append, device="cpu"
    )
    assert [score.candidate for score in told] == [ZERO, GDA]
    assert list(choice.scores) == told
