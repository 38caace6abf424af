"""What is wrong with text from outside, in a phrase."""

from __future__ import annotations

import datetime
import json

import pytest

from cliptune.reading import content_of, json_value, listed, shown, utf8, yaml_value


@pytest.mark.parametrize(
    ("content", "phrase"),
    [
        (b"", "expecting value at line 1, column 1"),
        (b'{"a": 1,\n}', "at line 2, column 1|at line 1, column 8"),
        (b"\xff", "byte 0 is no UTF-8"),
        (b"[" * 20_000, "more than 64 deep"),
        (b"[" * 70 + b"]" * 70, "more than 64 deep"),
        (b"9" * 5000, "a number in it has too many digits"),
        (b'["\\ud83d"]', "half a character"),
    ],
)
def test_what_is_no_json_is_a_phrase(content, phrase):
    with pytest.raises(ValueError, match=phrase) as raised:
        json_value(content)
    assert type(raised.value) is ValueError
    assert "\n" not in str(raised.value)


def test_json_is_read_as_json_reads_it():
    value = {"a": [1, 2.5, None, True, "\U0001f600"], "b": {"c": []}}
    assert json_value(json.dumps(value)) == json_value(b"\xef\xbb\xbf" + json.dumps(value).encode()) == value


@pytest.mark.parametrize(
    ("content", "phrase"),
    [
        ("a: [", "expected (the )?node content"),  # the loader in C has other words than that in Python
        ("- " * 1000 + "a", "more than 64 deep|maximum nesting depth"),
        ("&a [*a]", "more than 64 deep"),
        ("a: 2001-99-99", "a value in it cannot be read"),
        ("!!bool maybe", "a value in it cannot be read"),
        ("!!python/object/apply:os.getcwd []", "could not determine a constructor"),
        ("1" * 101, "too many digits"),
        ("1" + ":1" * 60, "too many digits"),
        ("? [a]\n: b", "found unhashable key"),
    ],
)
def test_what_is_no_yaml_is_a_phrase(content, phrase):
    with pytest.raises(ValueError, match=phrase) as raised:
        yaml_value(content)
    assert type(raised.value) is ValueError
    assert "\n" not in str(raised.value)


def test_yaml_is_read_with_its_aliases_as_long_as_they_stand_for_little():
    assert yaml_value("a: &x [1, two]\nb: *x\nc: 2001-02-03") == {
        "a": [1, "two"], "b": [1, "two"], "c": datetime.date(2001, 2, 3)
    }  # fmt: skip
    doubled = "a0: &a0 [1, 1]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]\n" for i in range(1, 21))
    with pytest.raises(ValueError, match="aliases stand for more than 1,000,000 values"):
        yaml_value(doubled)


def test_large_files_are_not_read(tmp_path):
    (tmp_path / "large").write_bytes(b"x" * 11)
    assert content_of(tmp_path / "large", 11) == b"x" * 11
    with pytest.raises(ValueError, match="it has 11 bytes, and at most 10 are read"):
        content_of(tmp_path / "large", 10)


def test_text_from_outside_stays_on_its_line():
    assert utf8(b"\xef\xbb\xbfa") == utf8(b"a") == "a"
    assert shown("red\nfox \x1b[31m\ud800 é") == "red fox \\x1b[31m\\ud800 é"
    assert shown("x" * 10**6) == "x" * 79 + "…"
    assert shown("x" * 80) == "x" * 80
    assert listed(["a", "b\0", 3, 4], 3) == "a, b\\x00, 3 and 1 more"
