"""Published settings on narrow towers: noted, flagged, and never changed."""

from __future__ import annotations

import json

import pytest

import cliptune
from cliptune.clip.model import CLIP, CLIPConfig
from cliptune.clip.tokenizer import default_tokenizer
from cliptune.registry import add_ons, build, names
from cliptune.registry.building import find
from cliptune.registry.narrow import NARROW, STEPS, limits_of, read_limits
from cliptune.results import collect, rows
from cliptune.training import fit
from tests.training.support import NAMES, squares

WIDE = CLIPConfig(
    embed=16, resolution=32, image_width=64, image_layers=2, patch=8, context=77, vocab=49408, text_width=NARROW,
    text_layers=2,
)  # fmt: skip
LIMITED = [(name, limit) for name in (*names(), *add_ons()) for limit in limits_of(find(name))]


def test_what_is_said_of_narrow_towers_allows_what_worked_and_not_the_default():
    assert {name for name, _ in LIMITED} >= {"rlp", "maple", "vpt", "ivlp"}
    for name, limit in LIMITED:
        assert limit.allows(limit.works), name
        assert "seed" in limit.seen, name
        if limit.option != STEPS:
            assert not limit.allows(getattr(find(name).Config(), limit.option)), name


def test_published_rates_are_noted_on_mini_and_left_as_they_are(tiny_clip):
    recipe = build("coop+rlp+dpc", tiny_clip, NAMES)
    assert recipe.config["rlp_lr_scale"] == 1.0
    (told,) = recipe.narrow
    assert (told.option, told.width) == ("rlp_lr_scale", 24)
    assert told.note in recipe.all_notes
    assert told.works > 1
    assert not build("coop+rlp+dpc", tiny_clip, NAMES, rlp_lr_scale=told.works).narrow


def test_towers_of_real_widths_hear_nothing():
    clip = CLIP.of_sizes(WIDE, default_tokenizer())
    recipe = build("maple+rlp+dpc", clip, NAMES)
    assert recipe.narrow == ()
    assert recipe.fewest_steps is None


def test_few_steps_are_judged_when_they_are_known(tiny_clip, tmp_path):
    """18 images in batches of 4: 4 steps an epoch."""
    (limit,) = (limit for name, limit in LIMITED if name == "maple" and limit.option == STEPS)
    data = squares()
    run = fit(build("maple", tiny_clip, NAMES, epochs=2), data, tmp_path, progress="silent")
    (flag,) = run.result["flags"]["narrow"]
    assert (flag["option"], flag["used"], flag["works"], flag["width"]) == (STEPS, 8, limit.works, 24)
    assert flag["note"] in run.result["notes"]
    assert "maple: 8 optimiser steps may be too few" in flag["note"]
    assert json.loads((tmp_path / "result.json").read_text())["flags"]["narrow"] == [flag]
    recipe = build("maple", tiny_clip, NAMES)
    assert recipe.fewest_steps.judge(int(limit.least)) == ()
    assert recipe.fewest_steps.judge(int(limit.least) - 1)
    # The second stage of an add-on teaches the host nothing.
    both = fit(build("maple+dpc", tiny_clip, NAMES, epochs=2, dpc_epochs=2), data, progress="silent")
    assert [flag["used"] for flag in both.result["flags"]["narrow"]] == [8]
    budget = fit(build("maple", tiny_clip, NAMES), data, steps=9, progress="silent")
    assert [flag["used"] for flag in budget.result["flags"]["narrow"]] == [9]


@pytest.mark.parametrize("method", ["maple", "vpt", "ivlp"])
def test_the_published_five_epochs_of_deep_tokens_are_few(method, tiny_clip):
    """Five epochs of ten classes with 16 images each, in batches of 4, are 200 steps."""
    recipe = build(method, tiny_clip, NAMES)
    (flag,) = recipe.fewest_steps.judge(200)
    assert f"{method}: 200 optimiser steps may be too few" in flag.note
    assert recipe.fewest_steps.judge(int(flag.works)) == ()


def test_a_table_says_it_of_the_row(tiny_clip, tmp_path):
    run = fit(build("coop+rlp", tiny_clip, NAMES, epochs=1), squares(), tmp_path / "rlp", progress="silent")
    run.add("test", cliptune.evaluate(run.adapter, squares().test))
    (row,) = rows(collect(tmp_path))
    works = run.result["flags"]["narrow"][0]["works"]
    assert f"rlp_lr_scale=1 where {works:g} worked on narrow towers" in row.caveats


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[narrow", "expected TOML"),
        ("narrow = 3", "a table for each option"),
        ("[narrow.rlp_rate]\nworks = 1", "'rlp_rate', which is no option"),
        ("[narrow.rlp_rank]\nworks = 1\nseen = 'x'", "least, most or both"),
        ("[narrow.rlp_rank]\nworks = 'two'\nleast = 1\nseen = 'x'", "must give numbers"),
        ("[narrow.rlp_rank]\nworks = 1\nleast = 1", "must say in words"),
    ],
)
def test_bad_entries_are_sentences(text, words):
    with pytest.raises(ValueError, match=words):
        read_limits(text, find("rlp"), "rlp.toml")
