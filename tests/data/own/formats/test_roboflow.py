from __future__ import annotations

import pytest

from cliptune.data import load_data
from tests.data.own.formats.conftest import CLASSES, PICTURES, spoken, write_flat


def one_hot(names=PICTURES, header="filename, lynx, puma, red_fox") -> str:
    """As Roboflow exports Multi-class Classification CSV: a blank after each comma of the header."""
    lines = [",".join([name, *(str(int(PICTURES[name] == c)) for c in CLASSES)]) for name in names]
    return "\n".join([header, *lines]) + "\n"


def test_columns_of_zeros_and_ones_name_the_class(flat, read):
    (flat / "_classes.csv").write_text(one_hot())
    assert read(flat) == spoken()
    (flat / "_classes.csv").rename(flat / "other.csv")
    assert read(flat / "other.csv") == spoken()


def test_splits_are_told_by_folders(tmp_path):
    names = list(PICTURES)
    parts = {"train": names[::2], "valid": names[1::4], "test": names[3::4]}
    for split, part in parts.items():
        write_flat(tmp_path / split)
        (tmp_path / split / "_classes.csv").write_text(one_hot(part))
    data = load_data(tmp_path)
    for split, folder in (("train", "train"), ("val", "valid"), ("test", "test")):
        assert list(data[split].ids) == [f"{folder}/{name}" for name in parts[folder]]


def test_pictures_of_no_class_are_passed_over_and_of_several_refused(flat):
    text = one_hot().replace("lynx0.png,1,0,0", "lynx0.png,0,0,0")
    (flat / "_classes.csv").write_text(text)
    assert any("passed over, since it is of no class: lynx0.png" in note for note in load_data(flat).notes)
    (flat / "_classes.csv").write_text(text.replace("lynx1.png,1,0,0", "lynx1.png,1,1,0"))
    with pytest.raises(ValueError, match=r"line 3: lynx1.png is of 2 classes \(lynx, puma\)"):
        load_data(flat)


def test_a_list_of_classes_0_and_1_is_a_list(flat):
    (flat / "list.csv").write_text(
        "filename,label\n" + "".join(f"{n},{int(c == 'puma')}\n" for n, c in PICTURES.items())
    )
    assert load_data(flat / "list.csv").class_names == ("0", "1")
