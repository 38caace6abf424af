"""Description files and what is drawn from them."""

from __future__ import annotations

import json
import random

import pytest
import torch

from cliptune.texts import ClassSet, DescriptionPhrasing, attribute_sets, read_descriptions
from cliptune.texts.descriptions import sentences_of, template_bank, usable
from tests.conftest import CLASS_NAMES


def write(path, content) -> None:
    path.write_text(content if isinstance(content, str) else json.dumps(content))


def pool(n: int, start: str = "sentence") -> list[str]:
    return [f"{start} number {i}, long enough" for i in range(n)]


def classes(**pools: list[str]) -> ClassSet:
    return ClassSet(tuple(pools), descriptions={"des": pools})


def drawn(given: ClassSet, **more) -> list[list[str]]:
    return DescriptionPhrasing(("des",), **more).sentences(given)["des"]


def test_published_file_names_become_sets(tmp_path):
    entries = {"red_panda": ["a sentence about it"]}
    for name in ("dtd_des", "dtd_dist", "dtd_cse_2", "dtd_cse_1", "dtd_csl_10", "dtd_csl_4", "wing shape"):
        write(tmp_path / f"{name}.json", entries)
    write(tmp_path / "wing shape.about.json", {"model": "m"})
    found = read_descriptions(tmp_path)
    assert list(found) == ["cause 1", "cause 2", "cause 4", "cause 10", "des", "dist", "wing shape"]
    assert all(sentences == entries for sentences in found.values())
    assert read_descriptions(tmp_path / "dtd_csl_4.json") == {"cause 4": entries}


def test_twenty_characters_are_enough():
    assert usable(["nineteen characters", "exactly twenty chars"]) == ["exactly twenty chars"]
    assert drawn(classes(yawl=["nineteen characters", "exactly twenty chars"])) == [["exactly twenty chars"]]


def test_raw_class_names_are_found():
    given = {"des": {"Red_Panda": ["a"], "yawl": ["b"]}}
    assert sentences_of(given, "des", "red panda") == ["a"]
    assert sentences_of(given, "des", "yawl") == ["b"]


def test_two_classes_of_one_name_share_their_sentences():
    given = ClassSet(("missile", "missile"), descriptions={"des": {"missile": pool(3)}})
    first, second = drawn(given, m=3)
    assert set(first) == set(second) == set(pool(3))


def test_m_sentences_are_drawn_without_replacement_where_there_are_enough():
    chosen = drawn(classes(a=pool(20), b=pool(25)), m=20)
    assert sorted(chosen[0]) == sorted(pool(20))
    assert len(set(chosen[1])) == 20
    assert drawn(classes(a=pool(20), b=pool(25)), m=20) == chosen
    assert drawn(classes(a=pool(20), b=pool(25)), m=20, seed=2) != chosen


def test_without_m_all_classes_get_as_many_as_the_poorest_has_but_at_most_twenty():
    assert [len(c) for c in drawn(classes(a=pool(30), b=pool(25)))] == [20, 20]
    assert [len(c) for c in drawn(classes(a=pool(30), b=[*pool(3), *pool(3)]))] == [3, 3]


def test_fewer_than_m_repeat_evenly_with_a_warning_or_are_refused():
    given = classes(a=pool(9), b=pool(3))
    with pytest.warns(UserWarning, match=r"1 of 2 classes have fewer than m = 8 .*'b' \(3\)"):
        chosen = drawn(given, m=8)
    assert sorted(chosen[1].count(s) for s in pool(3)) == [2, 3, 3]
    with pytest.raises(ValueError, match="Lower m, add sentences, or allow replacement"):
        drawn(given, m=8, replacement="never")


def test_published_rule_replays_pythons_generator():
    """With replacement as soon as there are not more than m; one stream for all sets and classes."""
    given = ClassSet(
        ("a", "b"), descriptions={"des": {"a": pool(5), "b": pool(6)}, "dist": {"a": pool(9), "b": pool(2)}}
    )
    phrasing = DescriptionPhrasing(("des", "dist"), 5, 7, replacement="reference", rng="reference")
    random.seed(7)
    expected = {
        "des": [random.choices(pool(5), k=5), random.sample(pool(6), 5)],
        "dist": [random.sample(pool(9), 5), random.choices(pool(2), k=5)],
    }
    state = random.getstate()
    assert phrasing.sentences(given) == expected
    assert random.getstate() == state  # the global generator is not touched


def test_own_streams_do_not_move_each_other():
    given = ClassSet(("a",), descriptions={"des": {"a": pool(9)}, "dist": {"a": pool(9)}})
    both = DescriptionPhrasing(("des", "dist"), 4).sentences(given)
    assert DescriptionPhrasing(("dist",), 4).sentences(given)["dist"] == both["dist"]


def test_texts_lie_class_by_class_and_set_by_set(tiny_clip):
    given = ClassSet(("a", "b"), descriptions={"x": {"a": pool(3), "b": pool(4)}, "y": {"a": pool(2), "b": pool(2)}})
    texts = DescriptionPhrasing(("x", "y"), views=(1, 0))(tiny_clip, given)
    assert texts.class_of.tolist() == [0] * 5 + [1] * 5
    assert texts.set_of.tolist() == [0, 0, 0, 1, 1] * 2
    assert texts.view_of.tolist() == [1, 1, 1, 0, 0] * 2
    assert torch.equal(texts.blocks, torch.arange(10).view(2, 5))


def test_too_long_sentences_are_cut_after_a_word(tiny_clip):
    long = "word " * 90 + "end"
    with pytest.warns(UserWarning, match="1 of 2 sentences have more than 77 tokens"):
        texts = DescriptionPhrasing(("des",))(tiny_clip, classes(a=[long], b=pool(1)))
    assert torch.equal(texts.ids[0], tiny_clip.tokenize(["word " * 75]).ids[0])


def test_attributes_are_made_from_causes_where_there_are_none():
    causes = {
        "shape": {"a": ["it is round"], "b": ["it is square"]},
        "colour": {"a": ["it is red"], "b": ["it is red"]},
    }
    made = attribute_sets(causes)
    assert made["des"] == {"a": ["it is round", "it is red"], "b": ["it is square", "it is red"]}
    assert made["dist"] == {"a": ["it is round"], "b": ["it is square"]}
    assert attribute_sets({"des": causes["colour"]})["dist"] == causes["colour"]
    given = ClassSet(("a", "b"), descriptions=causes)
    assert DescriptionPhrasing(("des", "dist"), min_length=5).sizes(given) == (2, 1)


def test_stand_in_templates_differ_between_sets():
    bank = template_bank(ClassSet(CLASS_NAMES), ("x", "y", "z"))
    assert not set(bank["x"]["forest"]) & set(bank["y"]["forest"])
    assert all("forest" in sentence for sentence in bank["z"]["forest"])
    assert all(len(usable(sentences)) >= 14 for entries in bank.values() for sentences in entries.values())


def test_tinyworld_describes_its_classes_by_cause(tiny_clip):
    from cliptune.data.tinyworld.suites import load_suite, suites

    for name in suites():
        suite = load_suite(name, train=0, val=0, test=0)
        given = ClassSet(suite.class_names, descriptions=suite.descriptions)
        phrasing = DescriptionPhrasing(tuple(suite.descriptions), min_length=8)
        assert min(phrasing.sizes(given)) >= 1, name


def test_bad_files_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="no file or folder"):
        read_descriptions(tmp_path / "absent.json")
    with pytest.raises(FileNotFoundError, match="holds no .json file"):
        read_descriptions(tmp_path)
    for content, reason in (
        ("{", "not readable JSON"),
        ([], "must hold a JSON object"),
        ({}, "an empty one"),
        ({"a": "text"}, "class 'a': expected a list of sentences"),
        ({"a": [1]}, "class 'a': expected a list of sentences"),
    ):
        write(tmp_path / "x_des.json", content)
        with pytest.raises(ValueError, match=reason):
            read_descriptions(tmp_path)
    write(tmp_path / "x_des.json", {"a": ["b"]})
    write(tmp_path / "y_des.json", {"a": ["b"]})
    with pytest.raises(ValueError, match="x_des.json and y_des.json .* both the set 'des'"):
        read_descriptions(tmp_path)


def test_classes_and_sets_that_are_missing_are_named():
    given = classes(yawl=pool(2), forest=["short", ""])
    with pytest.raises(ValueError, match=r"'forest' has no usable sentence in the set 'des': of 2"):
        drawn(given)
    with pytest.raises(ValueError, match="says nothing about the class 'lynx' .*cliptune describe"):
        drawn(ClassSet(("lynx",), descriptions=given.descriptions))
    with pytest.raises(ValueError, match="no set 'shape'; there are des"):
        DescriptionPhrasing(("shape",)).sentences(given)
    with pytest.raises(ValueError, match="m must be at least 1"):
        DescriptionPhrasing(("des",), 0)
    with pytest.raises(ValueError, match="replacement must be one of"):
        DescriptionPhrasing(("des",), replacement="always")
