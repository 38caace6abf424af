from __future__ import annotations

import dataclasses

import pytest

from cliptune.preprocessing import MEAN, STD, Preprocessing


def test_the_default_is_openais():
    usual = Preprocessing()
    assert (usual.resize, usual.interpolation, usual.oversize, usual.fill) == ("shortest", "bicubic", 1.0, 0)
    assert (usual.mean, usual.std) == (MEAN, STD)


def test_it_survives_a_file():
    how = Preprocessing("longest", "bilinear", 256 / 224, 127, (0.5, 0.4, 0.3), (0.2, 0.2, 0.2))
    plain = {name: list(value) if isinstance(value, tuple) else value for name, value in how.asdict().items()}
    assert Preprocessing.from_dict(plain) == how


def test_some_fields_stand_in_place_of_others():
    base = Preprocessing(resize="squash", mean=(0.5, 0.5, 0.5))
    assert Preprocessing.from_dict({"resize": "longest"}, base) == dataclasses.replace(base, resize="longest")


def test_the_side_before_the_crop_is_the_declared_one():
    assert Preprocessing(oversize=256 / 224).side(224) == 256
    assert Preprocessing(oversize=343 / 336).side(336) == 343


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"resize": "crop"}, "resize must be one of shortest, squash, longest"),
        ({"interpolation": "lanczos"}, "interpolation must be one of"),
        ({"oversize": 0.9}, "oversize must be from 1"),
        ({"oversize": "2"}, "wrong kind"),
        ({"fill": 300}, "fill must be a whole number"),
        ({"std": [0.0, 1.0, 1.0]}, "std above 0"),
        ({"mean": [0.5]}, "three numbers"),
        ({"size": 3}, "'size' is not one of"),
    ],
)
def test_what_cannot_be_is_said(fields, said):
    with pytest.raises(ValueError, match=said):
        Preprocessing.from_dict(fields)


@pytest.mark.parametrize(
    ("how", "told"),
    [
        (Preprocessing(), "short side to 224 pixels (bicubic), 224 × 224 cut out of the centre; mean 0.4815"),
        (Preprocessing("squash", "bilinear"), "squashed to 224 × 224 pixels (bilinear); mean"),
        (Preprocessing("longest", fill=7), "long side to 224 pixels (bicubic), padded with grey 7; mean"),
        (Preprocessing("squash", oversize=256 / 224), "squashed to 256 × 256 pixels (bicubic), 224 × 224 cut out"),
    ],
)
def test_it_tells_itself(how, told):
    assert told in how.told(224)
