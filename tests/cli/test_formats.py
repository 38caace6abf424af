"""Pictures of phones and of newer formats: read where there is a decoder, else named with the line that brings it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from cliptune.data import formats
from tests.cli.conftest import COLOURS, picture
from tests.data.pictures import write_further
from tests.data.published.miniatures import MINIATURES

FIT = ("--method", "zeroshot", "--out", "out")
PLUG_INS = "pip install 'cliptune[formats]'"


@pytest.fixture
def phone(photos: Path) -> Path:
    """The photographs, one of each class as a phone writes them; one of them called .jpg."""
    for i, (name, colour) in enumerate(COLOURS.items()):
        write_further(photos / name / ("phone.jpg" if i == 3 else "phone.heic"), "HEIC", picture(colour, (64, 48), i))
    return photos


@pytest.fixture
def without_plug_ins(monkeypatch):
    for plug_in in ("pillow_heif", "pillow_jxl"):
        monkeypatch.setitem(sys.modules, plug_in, None)  # importing it fails
    formats.decodable.cache_clear()
    yield
    formats.decodable.cache_clear()


def test_they_are_learned_from_and_named_like_any_others(cli, phone, backbone):
    answer = cli("fit", phone, *FIT, "--backbone", backbone, "--test", 0.5)
    assert answer.code == 0, answer.err
    assert "36 pictures" in answer.out
    named = json.loads(cli("predict", "out", phone, "--json").out)
    assert sum("phone" in entry["image"] for entry in named) == 4


@pytest.mark.parametrize("command", ["fit", "train"])
def test_without_a_decoder_they_are_passed_over_and_named(cli, phone, backbone, command, request):
    request.getfixturevalue("without_plug_ins")
    words = ("fit", phone) if command == "fit" else ("train", "--data", phone)
    disguised = cli(*words, *FIT, "--backbone", backbone)
    assert disguised.code == 2
    assert "Pictures of the kind HEIC cannot be decoded here" in disguised.err
    assert "1 case: snow/phone.jpg" in disguised.err
    assert PLUG_INS in disguised.err
    (phone / "snow" / "phone.jpg").unlink()
    answer = cli(*words, *FIT, "--backbone", backbone)
    assert answer.code == 0, answer.err
    (said,) = (line for line in answer.out.splitlines() if "of the kind HEIC" in line)
    assert "3 pictures" in said
    assert PLUG_INS in said
    assert all(f"{name}/phone.heic" in said for name in list(COLOURS)[:3])
    assert any("of the kind HEIC" in note for note in json.loads(Path("out/result.json").read_text())["notes"])


def test_predict_names_each_that_it_cannot_decode(cli, phone, backbone, request):
    assert cli("fit", phone, *FIT, "--backbone", backbone).code == 0
    request.getfixturevalue("without_plug_ins")
    answer = cli("predict", "out", phone)
    assert answer.code == 2
    lines = [line for line in answer.err.splitlines() if "is of the kind HEIC" in line]
    assert len(lines) == 4
    assert all(PLUG_INS in line for line in lines)
    assert "4 of 36 pictures could not be read; the others were named" in answer.err
    assert len(answer.out.splitlines()) == 32


def test_data_check_names_them(cli, tmp_path, request):
    MINIATURES["oxford_pets"](tmp_path)
    listed = next((tmp_path / "oxford_pets" / "images").glob("*.jpg"))
    write_further(listed, "JPEG XL")
    request.getfixturevalue("without_plug_ins")
    answer = cli("data", "check", "oxford_pets", "--root", tmp_path)
    assert answer.code == 2
    assert f"{listed.name} is of the kind JPEG XL" in answer.out
    assert PLUG_INS in answer.out
