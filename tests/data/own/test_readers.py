from __future__ import annotations

import json

import pytest

from cliptune.data import load_data
from cliptune.data.own.readers import known_formats
from tests.data.own.formats.conftest import PICTURES, write_flat
from tests.data.own.formats.test_coco import coco
from tests.data.own.formats.test_cvat import cvat
from tests.data.own.formats.test_label_studio import tasks
from tests.data.own.formats.test_roboflow import one_hot
from tests.data.pictures import write_classes


def test_formats_are_found_in_their_room_and_have_names_of_their_own():
    titles = [known.title for known in known_formats()]
    keys = [known.key for known in known_formats() if known.write is not None]
    assert len(set(titles)) == len(titles) >= 6
    assert {"labelstudio", "coco", "fiftyone"} <= set(keys)


def test_a_folder_of_two_formats_is_refused_and_both_are_named(tmp_path):
    write_flat(tmp_path)
    (tmp_path / "annotations.xml").write_text(cvat())
    (tmp_path / "_classes.csv").write_text(one_hot())
    sentence = (
        r"could be one of several formats: CVAT's annotations \(annotations.xml\); Roboflow's _classes.csv .*Give"
    )
    with pytest.raises(ValueError, match=sentence):
        load_data(tmp_path)
    assert len(load_data(tmp_path / "annotations.xml").class_names) == 3


def test_content_decides_whatever_a_file_is_called(tmp_path):
    write_flat(tmp_path)
    for name, content in (("labels.json", coco()), ("result.json", tasks()), ("data", coco())):
        (tmp_path / name).write_text(json.dumps(content))
        data = load_data(tmp_path / name)
        assert sum(len(data[split]) for split in ("train", "val", "test")) == len(PICTURES)


def test_class_folders_stay_class_folders_with_other_files_beside(tmp_path):
    write_classes(tmp_path, {"annotations": 3, "data": 3, "lynx": 3})
    (tmp_path / "labels.json").write_text('{"0": "lynx"}')
    (tmp_path / "annotations.xml").write_text("<annotation/>")
    assert load_data(tmp_path).class_names == ("annotations", "data", "lynx")


def test_columns_for_a_format_that_has_none_are_refused(tmp_path):
    write_flat(tmp_path)
    (tmp_path / "annotations.xml").write_text(cvat())
    with pytest.raises(ValueError, match="--columns is for lists; which is which is known in this format"):
        load_data(tmp_path, columns="label=x")
