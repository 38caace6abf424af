from __future__ import annotations

import pytest

from cliptune.doctor.names import on_names

TEMPLATE = "a photo of a {}."


def found(*names: str) -> dict[str, tuple[str, ...]]:
    return {finding.kind: finding.cases for finding in on_names(names, TEMPLATE)}


def test_usual_names_are_well_read():
    assert not found("red fox", "golden retriever", "airplane", "Boeing 737", "abyssinian cat", "a-line dress")


def test_names_longer_than_the_context_are_errors():
    assert found("cat", "very " * 80 + "long")["long_name"][0].endswith("… has 88")


@pytest.mark.parametrize("pair", [("Cat", "cat"), ("café", "cafe\u0301"), ("R&amp;B", "R&B")])
def test_names_that_are_one_text_are_errors(pair):
    assert found(*pair, "dog")["same_name"] == (f"{pair[0]!r}, {pair[1]!r}",)


def test_names_that_are_nearly_one_text_are_hints():
    assert found("bird", "birds", "dog")["like_name"] == ("'bird', 'birds'",)


@pytest.mark.parametrize("name", ["17", "n01440764", "IMG_0123", "007b", "SKU-48213"])
def test_numbers_and_codes_say_nothing(name):
    assert found(name, "dog")["number_name"] == (name,)


@pytest.mark.parametrize("name", ["собака", "犬", "κύων"])
def test_other_scripts_are_hints(name):
    kinds = found(name, "dog")
    assert kinds["foreign_name"] == (name,)
    assert "split_name" not in kinds


def test_words_that_fall_into_many_pieces_are_hints():
    (case,) = found("xqzvkt", "dog")["split_name"]
    assert case.startswith("'xqzvkt': x|")
