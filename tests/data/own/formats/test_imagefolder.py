from __future__ import annotations

import json

import pytest

from cliptune.data import load_data
from tests.data.own.formats.conftest import PICTURES, spoken, write_flat
from tests.data.pictures import write_classes


def write_metadata(folder, names, kind):
    if kind == "csv":
        text = "file_name,label,caption\n" + "".join(f"{n},{PICTURES[n]},a picture\n" for n in names)
    else:
        text = "".join(json.dumps({"file_name": n, "label": PICTURES[n], "size": [23, 17]}) + "\n" for n in names)
    (folder / f"metadata.{kind}").write_text(text)


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_metadata_beside_the_pictures(flat, read, kind):
    write_metadata(flat, PICTURES, kind)
    assert read(flat) == spoken()
    assert read(flat / f"metadata.{kind}") == spoken()


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_metadata_in_the_folder_of_each_split(tmp_path, kind):
    names = list(PICTURES)
    for split, part in (("train", names[::2]), ("validation", names[1::4]), ("test", names[3::4])):
        write_flat(tmp_path / split)
        write_metadata(tmp_path / split, part, kind)
    data = load_data(tmp_path)
    assert list(data.train.ids) == [f"train/{name}" for name in names[::2]]
    assert list(data.val.ids) == [f"validation/{name}" for name in names[1::4]]
    assert list(data.test.ids) == [f"test/{name}" for name in names[3::4]]


def test_metadata_without_a_label_leaves_folders_the_classes(tmp_path):
    write_classes(tmp_path, {"lynx": 4, "puma": 4})
    (tmp_path / "metadata.csv").write_text("file_name,caption\nlynx/p00.png,sleeping\n")
    assert load_data(tmp_path).class_names == ("lynx", "puma")
