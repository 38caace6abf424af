from __future__ import annotations

import pytest

from cliptune.data import load_data
from tests.data.own.formats.conftest import PICTURES, spoken, write_flat

META = "<version>1.1</version><meta><task><labels><label><name>lynx</name></label></labels></task></meta>"
TAG = '<tag label="{}" source="manual"></tag>'
BOX = '<box label="{}" occluded="0" xtl="1.0" ytl="1.0" xbr="9.0" ybr="9.0" z_order="0"></box>'


def cvat(mark: str = TAG, folder: str = "", further: str = "", subsets: tuple[str, ...] = ()) -> str:
    """CVAT for images 1.1."""
    images = []
    for i, (name, label) in enumerate(PICTURES.items()):
        subset = f' subset="{subsets[i % len(subsets)]}"' if subsets else ""
        images.append(
            f'<image id="{i}" name="{folder}{name}"{subset} width="23" height="17">{mark.replace("{}", label)}</image>'
        )
    body = "\n".join(images)
    return f'<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n{META}{body}{further}\n</annotations>\n'


@pytest.mark.parametrize("mark", [TAG, BOX, BOX + BOX, TAG + '<box label="nose"></box>'])
def test_a_tag_or_shapes_of_one_label_name_a_picture(tmp_path, read, mark):
    write_flat(tmp_path / "images")
    (tmp_path / "annotations.xml").write_text(cvat(mark))
    assert read(tmp_path) == spoken("images/")
    assert read(tmp_path / "annotations.xml") == spoken("images/")
    assert any("one label of its shapes" in n for n in load_data(tmp_path).notes) is ("tag" not in mark)


def test_subsets_are_splits(tmp_path):
    write_flat(tmp_path / "images")
    (tmp_path / "annotations.xml").write_text(cvat(subsets=("Train", "Train", "Validation", "Test")))
    data = load_data(tmp_path)
    names = [f"images/{name}" for name in PICTURES]
    assert [list(data[s].ids) for s in ("val", "test")] == [names[2::4], names[3::4]]


def test_pictures_without_a_tag_are_passed_over_and_said(flat):
    further = '<image id="99" name="lynx0.png" width="23" height="17"></image>'
    (flat / "annotations.xml").write_text(cvat().replace(TAG.format("lynx"), "", 1) + "")
    assert any("passed over, since it has no tag: lynx0.png" in n for n in load_data(flat).notes)
    (flat / "annotations.xml").write_text(cvat(further=further))
    assert any("passed over" in note for note in load_data(flat).notes)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (cvat(TAG + '<tag label="other"></tag>'), r"lynx0.png has more than one label \(lynx, other\)"),
        (cvat(further='<track id="0" label="lynx"></track>'), "it annotates a video"),
        (cvat()[:-20], "expected XML, but"),
        (cvat().replace("<annotations>", "<annotations><!DOCTYPE x>"), "declares a document type"),
        (cvat(further='<image id="7"/>'), "image 7: expected the name of a picture"),
    ],
)
def test_wrong_content_gets_a_sentence(flat, content, sentence):
    (flat / "annotations.xml").write_text(content)
    with pytest.raises(ValueError, match=sentence):
        load_data(flat)
