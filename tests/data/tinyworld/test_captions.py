"""Captions say only what is true."""

import random

import torch

from cliptune.data.tinyworld.captions import (
    FACTS,
    Caption,
    Captioner,
    article,
    facts,
    matches,
    with_articles,
    words,
)
from cliptune.data.tinyworld.draws import Draws
from cliptune.data.tinyworld.scene import ATTRIBUTES, Chooser


def _pictures(n=300):
    allowed = {"shape": ATTRIBUTES["shape"][:12], "land": ATTRIBUTES["land"][:7]}
    draws = Draws([f"c{i}" for i in range(n)])
    attributes = Chooser([allowed]).attributes(torch.zeros(n, dtype=torch.int64), draws)
    domain = [("photo", "sketch", "night")[i % 3] if attributes["kind"][i] == 0 else "photo" for i in range(n)]
    table = facts(attributes, domain)
    rows = [{name: int(table[name][i]) for name in FACTS} for i in range(n)]
    return table, rows


def test_a_caption_is_true_of_its_picture_and_matches_are_what_is_stated():
    table, rows = _pictures()
    rng = random.Random(0)
    captions = [Captioner().write(row, rng) for row in rows]
    true = matches(captions, table)
    assert bool(true.diagonal().all())
    for i in range(0, 300, 37):
        for j in range(300):
            assert bool(true[i, j]) == all(rows[j][fact] == value for fact, value in captions[i].states.items())


def test_the_words_say_what_is_stated():
    _, rows = _pictures()
    rng = random.Random(1)
    for row in rows:
        caption = Captioner().write(row, rng)
        if "colour" in caption.states:
            assert ATTRIBUTES["colour"][row["colour"]] in caption.text
        if "count" in caption.states and row["count"] > 0:
            assert words()["number"][row["count"]] in caption.text
        if "land" in caption.states:
            assert any(name in caption.text for name in words()["land"][ATTRIBUTES["land"][row["land"]]])


def test_what_is_withheld_is_never_named():
    _, rows = _pictures()
    rng = random.Random(2)
    captioner = Captioner({"background": ("wood", "sky")})
    for row in rows * 3:
        text = captioner.write(row, rng).text
        assert "sky" not in text
        assert "on wood" not in text


def test_a_picture_without_a_fact_matches_no_caption_that_states_it():
    table, _ = _pictures(60)
    shape = matches([Caption("a star.", {"shape": 3})], table)[0]
    assert not bool((shape & (table["kind"] != 0)).any())


def test_articles():
    assert article("orange star") == "an orange star"
    assert article("red star") == "a red star"
    assert with_articles("it has the shape of a hourglass.") == "it has the shape of an hourglass."
