"""`foreground` of finished runs."""

from __future__ import annotations

from cliptune.explain import explain


def test_tinyworld_knows_its_objects(opened):
    answer = explain(opened("maple", images=6, depth=2), ["foreground"])["foreground"]
    looks = answer.found.looks["attention"]
    assert looks["after"]["all"].n == 6
    assert 0 < looks["after"]["all"].chance < 1
    assert list(answer.pictures) == ["share"]
    assert answer.to_json()["found"]["looks"]["grad-cam"]["before"]["all"]["n"] <= 6


def test_a_pattern_on_the_pixels_is_a_sentence(opened):
    assert "draws on the pixels" in explain(opened("vp", images=6), ["foreground"])["foreground"].why_not
