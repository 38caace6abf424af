"""Descriptions name the truth where there is one, and guess where there is none."""

from cliptune.data.tinyworld.descriptions import describe
from cliptune.data.tinyworld.scene import ATTRIBUTES


def test_a_fixed_cause_names_its_value_and_an_open_one_guesses():
    classes = {"ambrel": {"texture": ["striped"]}, "birkot": {"texture": ["dotted"]}}
    got = describe(classes, ["texture", "colour"])
    assert all("stripes" in sentence for sentence in got["texture"]["ambrel"])
    assert all("dots" in sentence for sentence in got["texture"]["birkot"])
    for name in classes:
        said = {word.strip(".") for sentence in got["colour"][name] for word in sentence.split()}
        named = said & set(ATTRIBUTES["colour"])
        assert len(named) == 3
    assert got["colour"]["ambrel"] != got["colour"]["birkot"]


def test_sentences_do_not_hold_the_class_name():
    got = describe({"velmora": {"shape": ["flower"], "variant": ["low"]}}, ["petals", "shape"])
    assert got["petals"]["velmora"][0] == "it has three petals."
    assert not any("velmora" in s for by_class in got.values() for s in by_class["velmora"])
