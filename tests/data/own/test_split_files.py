from __future__ import annotations

import json

import pytest

from cliptune.data.catalog import from_images
from cliptune.data.items import SPLITS
from cliptune.data.own.folders import read_folder
from cliptune.data.own.split_files import make_split, read_split
from tests.data.pictures import noise, write_classes


def write(tmp_path, content, name="split_zhou_Things.json"):
    (tmp_path / name).write_text(content if isinstance(content, str) else json.dumps(content))
    return tmp_path / name


def test_a_folders_split_survives_the_round_trip(tmp_path):
    write_classes(tmp_path / "photos", {"red_fox": 10, "puma": 6})
    data = read_folder(tmp_path / "photos")
    path = write(tmp_path, make_split(data))
    again = read_split(path, tmp_path / "photos", exif=True)
    assert (again.name, again.class_names) == ("Things", ("puma", "red fox"))
    assert all(again[split].items == data[split].items for split in SPLITS)
    assert again.split_sha256 == data.split_sha256
    assert make_split(again) == make_split(data)


def test_the_files_order_is_kept_and_names_are_read_out(tmp_path):
    write_classes(tmp_path, {"x": 4})
    content = {
        "train": [["x/p03.png", 1, "american_bulldog"], ["x/p00.png", 0, "lynx"]],
        "val": [],
        "test": [["x/p02.png", 0, "lynx"]],
    }
    data = read_split(write(tmp_path, content), template="a photo of a {}, a type of pet.")
    assert data.train.ids == ("x/p03.png", "x/p00.png")
    assert data.class_names == ("lynx", "american bulldog")
    assert data.template.endswith("a type of pet.")
    assert "1 of 2 class names are read in other words: 'american_bulldog' as 'american bulldog'" in data.notes[0]
    assert "1 of 2 classes have no test images" in data.notes[1]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("{", "expected JSON"),
        ([], "got list"),
        ({"train": [], "test": []}, "an object with train, test"),
        ({"train": [["a", 0]], "val": [], "test": []}, r"train\[0\]: expected \[path, label, class name\]"),
        ({"train": [["a", True, "x"]], "val": [], "test": []}, "expected"),
        ({"train": [["a", -1, "x"]], "val": [], "test": []}, "a label from 0"),
        (
            {"train": [], "val": [["../a", 0, "x"]], "test": []},
            r"val\[0\]: the path '\.\./a' leaves the root",
        ),
        ({"train": [], "val": [], "test": [["/a", 0, "x"]]}, "leaves the root"),
        ({"train": [["a", 0, "x"]], "val": [], "test": [["b", 0, "y"]]}, "label 0 is called 'x' and 'y'"),
        ({"train": [["a", 0, "x"], ["b", 2, "y"]], "val": [], "test": []}, "without gaps, but 1 is missing"),
        ({"train": [], "val": [], "test": []}, "got none"),
    ],
)
def test_wrong_files_get_a_sentence(tmp_path, content, sentence):
    with pytest.raises(ValueError, match=sentence):
        read_split(write(tmp_path, content))


def test_missing_pictures_are_listed_and_doubles_noted(tmp_path):
    rows = [["gone.png", 0, "x"]]
    path = write(tmp_path, {"train": rows, "val": [], "test": rows})
    with pytest.raises(FileNotFoundError, match=r"1 listed pictures are not below .*gone\.png"):
        read_split(path)
    assert "1 pictures are listed more than once" in read_split(path, check_files=False).notes[0]
    with pytest.raises(FileNotFoundError, match="found nothing"):
        read_split(tmp_path / "absent.json")


def test_pictures_in_memory_have_no_split_file():
    with pytest.raises(ValueError, match="lies in memory"):
        make_split(from_images([noise(0)], [0], ["fox"]))
