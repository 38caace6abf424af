from __future__ import annotations

import json

import pytest

from cliptune.data import load_data
from tests.data.own.formats.conftest import CLASSES, PICTURES, spoken, write_flat


def coco(names=PICTURES) -> dict:
    """One annotation for each picture, as CVAT, Roboflow and Label Studio export them."""
    images = [{"id": i, "file_name": name, "width": 23, "height": 17} for i, name in enumerate(names)]
    annotations = [
        {"id": i, "image_id": i, "category_id": 10 + CLASSES.index(PICTURES[name]), "bbox": [0, 0, 5, 5], "area": 25}
        for i, name in enumerate(names)
    ]
    categories = [{"id": 10 + i, "name": name, "supercategory": "animal"} for i, name in enumerate(CLASSES)]
    return {"info": {}, "images": images, "annotations": annotations, "categories": categories}


def test_one_category_for_each_picture(flat, read):
    (flat / "any.json").write_text(json.dumps(coco()))
    assert read(flat / "any.json") == spoken()
    assert any("boxes are not looked at" in note for note in load_data(flat / "any.json").notes)


def test_pictures_in_a_folder_beside_and_annotations_in_their_own(tmp_path, read):
    write_flat(tmp_path / "images")
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "instances_default.json").write_text(json.dumps(coco()))
    assert read(tmp_path) == spoken("images/")
    assert read(tmp_path / "annotations" / "instances_default.json") == spoken("images/")


def test_splits_are_told_by_folders_as_roboflow_writes_them(tmp_path, read):
    names = list(PICTURES)
    for split, part in (("train", names[::2]), ("valid", names[1::2])):
        write_flat(tmp_path / split)
        (tmp_path / split / "_annotations.coco.json").write_text(json.dumps(coco(part)))
    data = load_data(tmp_path)
    assert list(data.train.ids) == [f"train/{name}" for name in names[::2]]
    assert list(data.test.ids) == [f"valid/{name}" for name in names[1::2]]
    assert any("val serves as the test split" in note for note in data.notes)


def test_pictures_without_an_annotation_are_passed_over_and_said(flat):
    content = coco()
    del content["annotations"][3]
    (flat / "a.json").write_text(json.dumps(content))
    data = load_data(flat / "a.json")
    assert any("1 picture was passed over, since it has no annotation: lynx3.png" in note for note in data.notes)


def test_pictures_of_several_categories_are_refused(flat):
    content = coco()
    content["annotations"].append({"id": 99, "image_id": 0, "category_id": 11})
    (flat / "a.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"1 of 12 pictures show more than one category \(lynx0.png: lynx, puma\)"):
        load_data(flat / "a.json")


@pytest.mark.parametrize(
    ("part", "wrong", "sentence"),
    [
        ("annotations", {"image_id": 0, "category_id": 99}, r"annotations\[12\]: expected the ids"),
        ("annotations", 3, r"annotations\[12\]: expected the ids"),
        ("images", {"id": 0, "file_name": "x.png"}, r"images\[12\]: expected an id that is not there yet"),
        ("categories", {"id": 99, "name": " "}, r"categories\[3\]: expected an id"),
    ],
)
def test_broken_parts_are_named(flat, part, wrong, sentence):
    content = coco()
    content[part].append(wrong)
    (flat / "a.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=sentence):
        load_data(flat / "a.json")
