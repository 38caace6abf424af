"""`grad-cam` of finished runs."""

from __future__ import annotations

from cliptune.explain import explain


def test_right_and_wrong_images_with_their_maps(opened):
    run = opened("coop", images=24)
    answer = explain(run, ["grad-cam"])["grad-cam"]
    assert len(answer.found.shown) == 6
    assert all(one.image in run.split().ids for one in answer.found.shown)
    wrong = [one for one in answer.found.shown if one.true != one.predicted]
    assert len(wrong) == min(3, int((~run.answers().right).sum()))
    (figure,) = answer.pictures.values()
    assert sum(bool(axis.images) for axis in figure.axes) == 18


def test_a_pattern_on_the_pixels_is_a_sentence(opened):
    assert "draws on the pixels" in explain(opened("vp", images=6), ["grad-cam"])["grad-cam"].why_not
