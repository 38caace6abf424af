from __future__ import annotations

import json

import pytest

from cliptune.exported import Description

TOLD = Description(("lynx", "красная лиса"), 32, weight=0.2, checked={"pictures": 3}, mean=(0.5,) * 3, std=(0.2,) * 3)


def test_what_is_written_is_read():
    assert Description.read(TOLD.text, "model") == TOLD
    said = json.loads(TOLD.text)["preprocessing"]
    assert said["resize"]["short_side"] == 32
    assert said["values"] == [0, 255]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"format": "other/1"}, "of format 'other/1'"),
        ({"classes": []}, "no list of names"),
        ({"classes": [1]}, "no list of names"),
        ({"resolution": 10**6}, "from 1 to 4096"),
        ({"resolution": "32"}, "from 1 to 4096"),
        ({"input": "int4"}, "none of uint8, float32"),
        ({"normalised_inside_with": None}, "NoneType"),
    ],
)
def test_a_damaged_description_is_a_sentence(change, reason):
    with pytest.raises(ValueError, match=rf"^model: its description cannot be read .*{reason}.*Export the run again"):
        Description.read(json.dumps({**json.loads(TOLD.text), **change}), "model")


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", "3"])
def test_no_description_is_a_sentence(text):
    with pytest.raises(ValueError, match="cannot be read"):
        Description.read(text, "model")
