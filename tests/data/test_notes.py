"""What readers of pictures pass over, rename, cut or guess stands in the data set's notes."""

from __future__ import annotations

import json
import os

import pytest

from cliptune.data import from_images, load_data
from cliptune.data.fewshot_files import few_shot_record, read_few_shot
from cliptune.data.own.folders import read_folder
from cliptune.data.own.lists import read_list
from cliptune.noted import NotedWarning, few, once
from tests.data.pictures import noise, write_classes


def said(data) -> str:
    assert len(set(data.notes)) == len(data.notes)
    return "\n".join(data.notes)


def test_what_a_folder_passes_over_is_counted_by_kind(tmp_path):
    write_classes(tmp_path, {"red_fox": 3, "puma": 3})
    noise(9).save(tmp_path / "puma" / ".hidden.png")
    (tmp_path / ".thumbs").mkdir()
    (tmp_path / "puma" / "__MACOSX").mkdir()
    (tmp_path / "readme.txt").write_text("mine")
    os.symlink(tmp_path / "puma", tmp_path / "puma" / "again")
    notes = said(read_folder(tmp_path))
    assert "1 picture was passed over, because of a dot before the name" in notes
    assert "1 file beside the class folders was passed over" in notes
    assert "passed over: .thumbs, __MACOSX." in notes
    assert "1 folder that a link leads to once more was not read again" in notes
    assert "1 of 2 class names are read in other words: 'red_fox' as 'red fox'" in notes


def test_empty_class_folders_of_a_split_are_named(tmp_path):
    write_classes(tmp_path / "train", {"cat": 2, "dog": 2})
    write_classes(tmp_path / "test", {"cat": 1})
    (tmp_path / "test" / "dog").mkdir()
    notes = said(read_folder(tmp_path))
    assert "1 class folders of test hold no picture: dog." in notes
    assert "1 of 2 classes have no test images, so no number speaks of them: 'dog'." in notes


def test_numbers_as_class_folders_are_pointed_out(tmp_path):
    write_classes(tmp_path, {"0": 3, "1": 3})
    assert "the classes are numbers" in said(read_folder(tmp_path))


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_blank_lines_of_a_list_are_counted(tmp_path, kind):
    write_classes(tmp_path, {"a": 2, "b": 2})
    rows = [(f"{c}/p0{i}.png", c) for c in "ab" for i in range(2)]
    lines = [f"{path},{c}" if kind == "csv" else json.dumps({"image": path, "class": c}) for path, c in rows]
    path = tmp_path / f"list.{kind}"
    path.write_text("\n".join([*(["image,class"] if kind == "csv" else []), "", *lines[:2], "", *lines[2:]]))
    assert "2 blank lines were passed over" in said(read_list(path))


def test_a_folder_that_is_called_like_a_data_set_is_said_to_be_read(tmp_path, monkeypatch):
    write_classes(tmp_path / "flowers", {"rose": 3, "tulip": 3})
    monkeypatch.chdir(tmp_path)
    assert "a folder of this name, so it was read, and not the data set oxford_flowers" in said(load_data("flowers"))


def test_validation_images_that_are_cut_are_counted():
    names = ("a", "b")
    labels = [i % 2 for i in range(20)]
    data = from_images([noise(i) for i in range(20)], labels, names, val=([noise(i) for i in range(12)], labels[:12]))
    assert "2 of 12 validation images are kept, at most 1 of a class" in said(data.few_shot(1, 1))
    assert not data.few_shot(8, 1).subset("all").notes[1:]


def test_picks_of_another_split_are_noted_as_well_as_warned_of(tmp_path):
    labels = [0, 0, 0, 1, 1, 1]
    data = from_images([noise(i) for i in range(6)], labels, ("a", "b"))
    other = from_images([noise(i + 50) for i in range(6)], labels, ("a", "b"))
    path = tmp_path / "picks.json"
    path.write_text(json.dumps(few_shot_record(other, 1, 3)))
    with pytest.warns(NotedWarning, match="another version"):
        picked = read_few_shot(path, data)
    assert "the picks were drawn again with 1 shots and seed 3" in said(picked)


def test_sentences_are_said_once_and_long_lists_are_cut():
    assert once(["a", "b"], ("b", "c")) == ("a", "b", "c")
    assert few("vwxyz") == "v, w, x and 2 more"
    assert few(["v"]) == "v"
