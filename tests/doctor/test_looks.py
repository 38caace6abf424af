"""Copies that were cut are known by the hashes of the cuts; what is expected is imagehash's own answer to each cut."""

from __future__ import annotations

import imagehash
import numpy as np
import pytest
from PIL import Image

import cliptune
from cliptune.data import load_data
from cliptune.doctor import examine, looks
from cliptune.doctor.looks import CUTS, cuts_of, perceptual


@pytest.fixture(scope="module")
def drawings() -> list[Image.Image]:
    data = cliptune.load_data("tinyworld/symbols", shots=3)
    return [data.train.image(i).resize((120, 96), Image.Resampling.BICUBIC) for i in range(len(data.train))]


def test_cuts_are_hashes_of_what_is_left(drawings):
    found = cuts_of(drawings[0], perceptual())
    assert found.shape == (len(CUTS),) == (35,)
    for (left, top, right, bottom), value in zip(CUTS, found, strict=True):
        box = (round(120 * left), round(96 * top), 120 - round(120 * right), 96 - round(96 * bottom))
        assert int(str(imagehash.phash(drawings[0].convert("L").crop(box))), 16) == int(value)


def test_large_pictures_are_cut_when_they_are_small(drawings):
    large = drawings[0].resize((1200, 960), Image.Resampling.BICUBIC)
    differing = cuts_of(large, perceptual()) ^ cuts_of(drawings[0], perceptual())
    assert np.mean([bin(int(value)).count("1") for value in differing]) <= 2


@pytest.mark.parametrize("sides", [(1, 1, 1, 1), (1, 0, 1, 0), (0, 0, 0, 1)])
@pytest.mark.parametrize("share", [0.04, 0.05, 0.09])
def test_cut_copies_are_found(drawings, tmp_path, sides, share):
    for i, drawing in enumerate(drawings):
        folder = tmp_path / ("train" if i % 3 else "test") / ("ring" if i % 2 else "star")
        folder.mkdir(parents=True, exist_ok=True)
        drawing.save(folder / f"{i:02d}.png")
    left, top, right, bottom = (share * side for side in sides)
    box = (round(120 * left), round(96 * top), 120 - round(120 * right), 96 - round(96 * bottom))
    drawings[4].crop(box).save(tmp_path / "test" / "star" / "cut.jpg", quality=80)
    found = examine(load_data(tmp_path))
    said = [case for kind in ("near_leak", "near_conflict") if found.of(kind) for case in found.of(kind).cases]
    assert any("star/04.png" in case and "test/star/cut.jpg" in case for case in said), said
    assert "cut by up to an eighth" in found.looked[0]


@pytest.mark.parametrize(("most", "near", "found"), [(3, 6, True), (2, 6, False), (3, 1, False)])
def test_of_too_many_pictures_or_with_too_few_bits_cut_ones_are_not_looked_for(
    drawings, tmp_path, monkeypatch, most, near, found
):
    monkeypatch.setattr(looks, "MOST_CUT", most)
    monkeypatch.setattr("cliptune.doctor.examination.MOST_CUT", most)
    for i, name in enumerate(("ring", "star")):
        (tmp_path / "train" / name).mkdir(parents=True)
        drawings[20 * i].save(tmp_path / "train" / name / "0.png")
    drawings[0].crop((12, 10, 108, 86)).save(tmp_path / "train" / "ring" / "cut.png")  # a tenth at each side
    said = examine(load_data(tmp_path), near=near)
    assert any(finding.kind.startswith("near") for finding in said.findings) == found
    assert ("cut are not looked for with less than 2 bits, or among more than" in said.looked[0]) != found
