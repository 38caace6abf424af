"""`contributions` of finished runs."""

from __future__ import annotations

import pytest

from cliptune.explain import explain


def test_all_estimators_of_both_towers_and_their_pictures(opened):
    answer = explain(opened("maple", images=10, depth=2), ["contributions"])["contributions"]
    profiles = answer.found.profiles
    assert set(profiles) == {
        *(
            f"{tower} {name}"
            for tower in ("image", "text")
            for name in ("direct", "gradient", "leave_one_out", "frozen")
        ),
        "image margin",
    }
    assert profiles["image direct"].everything.n == 10
    assert profiles["image leave_one_out"].everything.n == 8
    assert "prompt" not in profiles["image frozen"].places
    for profile in profiles.values():
        if profile.parts:
            assert sum(profile.parts.values()) == pytest.approx(profile.score, abs=1e-2)
    assert list(answer.pictures) == ["image", "text", "parts"]
    assert "MLPs" in answer.sentence


def test_one_tower_alone_says_why_the_other_has_none(opened):
    answer = explain(opened("zeroshot", images=10, templates="selected7"), ["contributions"])["contributions"]
    assert set(answer.found.why_not) == {"text"}
    assert "averages" in answer.sentence
    assert list(answer.pictures) == ["image", "parts"]


def test_several_texts_per_class_have_none(opened):
    assert (
        "each class one text"
        in explain(opened("dvplite", images=10, epochs=2), ["contributions"])["contributions"].why_not
    )
