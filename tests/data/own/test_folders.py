from __future__ import annotations

import json
import os

import numpy as np
import pytest

from cliptune.data.images import read_image
from cliptune.data.items import SPLITS
from cliptune.data.own.folders import read_folder
from cliptune.data.splits import stratified
from tests.data.pictures import noise, write_classes


def test_class_folders_are_split_by_seed(tmp_path):
    write_classes(tmp_path / "my photos", {"red_fox": 10, "Puma": 5, "lynx": 1})
    data = read_folder(tmp_path / "my photos")
    assert data.name == "my photos"
    assert data.class_names == ("Puma", "lynx", "red fox")
    assert [len(data[split]) for split in SPLITS] == [8, 3, 5]
    paths = [f"{name}/p{i:02d}.png" for name, n in (("Puma", 5), ("lynx", 1), ("red_fox", 10)) for i in range(n)]
    parts = stratified([0] * 5 + [1] + [2] * 10, seed=1)
    for split, indices in zip(SPLITS, parts, strict=True):
        assert list(data[split].ids) == [paths[i] for i in indices]
    assert "split with seed 1 into 8 train, 3 val, 5 test" in data.notes[0]
    assert read_folder(tmp_path / "my photos").split_sha256 == data.split_sha256
    assert read_folder(tmp_path / "my photos", split_seed=2).split_sha256 != data.split_sha256
    assert len(read_folder(tmp_path / "my photos", fractions=(1, 0, 0)).train) == 16


@pytest.mark.parametrize("names", [("train", "val", "test"), ("Training", "validation", "testing")])
def test_split_folders_are_kept_as_they_are(tmp_path, names):
    counts = ({"cat": 3, "dog": 2}, {"cat": 1}, {"dog": 2, "cat": 1})
    for k, (name, classes) in enumerate(zip(names, counts, strict=True)):
        write_classes(tmp_path / name, classes, start=10_000 * k)
    data = read_folder(tmp_path, template="a blurry photo of a {}.")
    assert data.class_names == ("cat", "dog")
    assert data.template == "a blurry photo of a {}."
    assert [data[split].count() for split in SPLITS] == [{0: 3, 1: 2}, {0: 1}, {0: 1, 1: 2}]
    assert data.test.ids[0] == f"{names[2]}/cat/p00.png"
    assert data.test.image(0).tobytes() == noise(21_000).tobytes()
    assert not data.notes


def test_val_serves_as_test_where_there_is_none(tmp_path):
    write_classes(tmp_path / "train", {"cat": 3})
    write_classes(tmp_path / "valid", {"cat": 2})
    data = read_folder(tmp_path)
    assert [len(data[split]) for split in SPLITS] == [3, 0, 2]
    assert "valid serves as the test split" in data.notes[0]


def test_train_alone_is_split_and_other_folders_are_named(tmp_path):
    write_classes(tmp_path / "train", {"cat": 10})
    (tmp_path / "drafts").mkdir()
    data = read_folder(tmp_path)
    assert [len(data[split]) for split in SPLITS] == [5, 2, 3]
    assert "passed over: drafts" in data.notes[0]


def test_a_class_may_be_called_train(tmp_path):
    write_classes(tmp_path, {"train": 4, "bus": 4})
    data = read_folder(tmp_path)
    assert data.class_names == ("bus", "train")
    assert "train is read as a class and no split" in data.notes[0]


def test_side_car_files_are_passed_over_and_sub_folders_entered(tmp_path):
    write_classes(tmp_path, {"cat": 2, "dog": 2})
    write_classes(tmp_path / "cat", {"more": 2})
    for junk in ("._p00.png", ".DS_Store"):
        (tmp_path / "cat" / junk).write_bytes(b"junk")
    (tmp_path / ".hidden").mkdir()
    (tmp_path / "__MACOSX").mkdir()
    (tmp_path / "dog" / "notes.txt").write_text("woof")
    (tmp_path / "readme.txt").write_text("all mine")
    (tmp_path / "dog" / "P99.JPG").write_bytes((tmp_path / "dog" / "p00.png").read_bytes())
    data = read_folder(tmp_path, fractions=(1, 0, 0))
    assert data.class_names == ("cat", "dog")
    assert sorted(data.train.ids) == [
        "cat/more/p00.png",
        "cat/more/p01.png",
        "cat/p00.png",
        "cat/p01.png",
        "dog/P99.JPG",
        "dog/p00.png",
        "dog/p01.png",
    ]
    assert "1 file without a picture's suffix was passed over" in data.notes[0]


def test_links_are_followed_and_circles_end(tmp_path):
    write_classes(tmp_path / "elsewhere", {"cats": 2})
    write_classes(tmp_path / "data", {"dog": 2})
    os.symlink(tmp_path / "elsewhere" / "cats", tmp_path / "data" / "cat")
    os.symlink(tmp_path / "data" / "dog", tmp_path / "data" / "dog" / "again")
    data = read_folder(tmp_path / "data", fractions=(1, 0, 0))
    assert data.train.count() == {0: 2, 1: 2}
    assert {path.split("/")[0] for path in data.train.ids} == {"cat", "dog"}


def test_a_mixed_folder_of_real_files_reads(tmp_path):
    tag = noise(0).getexif()
    tag[0x0112] = 6
    folder = tmp_path / "things" / "odd"
    folder.mkdir(parents=True)
    noise(1, 40, 30).save(folder / "a.jpg")
    noise(2).convert("L").save(folder / "b.png")
    noise(3).quantize(9).save(folder / "c.png")
    noise(4).convert("CMYK").save(folder / "d.jpg")
    noise(5).save(folder / "e.jpg", exif=tag)
    noise(6).convert("RGBA").save(folder / "f.png")
    np.save(folder / "g.npy", np.zeros(3))
    data = read_folder(tmp_path / "things", fractions=(1, 0, 0))
    assert not data.train.unreadable()
    sizes = {path: data.train.image(i).size for i, path in enumerate(data.train.ids)}
    assert (sizes["odd/a.jpg"], sizes["odd/e.jpg"]) == ((40, 30), (17, 23))
    plain = read_folder(tmp_path / "things", fractions=(1, 0, 0), exif=False)
    i = plain.train.ids.index("odd/e.jpg")
    assert plain.train.image(i).tobytes() == read_image(folder / "e.jpg").tobytes()
    assert str(tmp_path) not in json.dumps(data.descriptor())


def test_missing_folders_are_refused(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(FileNotFoundError, match="found nothing"):
        read_folder(tmp_path / "absent")
    with pytest.raises(NotADirectoryError, match="found a file"):
        read_folder(tmp_path / "file")
    (tmp_path / "nothing").mkdir()
    with pytest.raises(ValueError, match="found no class folder"):
        read_folder(tmp_path / "nothing")


def test_empty_classes_are_refused_by_name(tmp_path):
    write_classes(tmp_path, {"cat": 2, "dog": 0})
    with pytest.raises(ValueError, match="1 class folders hold no picture: dog"):
        read_folder(tmp_path)


def test_classes_without_training_pictures_are_refused(tmp_path):
    write_classes(tmp_path / "train", {"cat": 2})
    write_classes(tmp_path / "test", {"cat": 1, "dog": 1})
    with pytest.raises(ValueError, match="1 classes have no training picture: dog"):
        read_folder(tmp_path)


def test_names_that_read_alike_are_refused(tmp_path):
    write_classes(tmp_path, {"Red_fox": 2, "red fox": 2})
    with pytest.raises(ValueError, match="'Red_fox' and 'red fox' are both read as 'red fox'"):
        read_folder(tmp_path)


def test_loose_pictures_and_doubled_splits_are_refused(tmp_path):
    write_classes(tmp_path / "a", {"cat": 2})
    noise(0).save(tmp_path / "a" / "loose.png")
    with pytest.raises(ValueError, match=r"found 1 pictures beside them \(loose\.png"):
        read_folder(tmp_path / "a")
    for name in ("train", "val", "valid"):
        write_classes(tmp_path / "b" / name, {"cat": 1})
    with pytest.raises(ValueError, match="val and valid both name the val split"):
        read_folder(tmp_path / "b")
    write_classes(tmp_path / "c" / "test", {"cat": 1})
    with pytest.raises(ValueError, match="no train folder"):
        read_folder(tmp_path / "c")


def two_levels(root, suffix=""):
    write_classes(root / "animals", {"bird": 4, "bug": 4})
    write_classes(root / "plants", {"fruit": 4, "bug": 4}, start=10_000)
    return root


def test_folders_in_folders_are_spoken_of(tmp_path):
    data = read_folder(two_levels(tmp_path))
    assert data.class_names == ("animals", "plants")
    (said,) = (note for note in data.notes if "--nested" in note)
    assert "The classes are the 2 upper folders (animals, plants)" in said
    assert "the 4 folders below (animals/bird, animals/bug, plants/bug and 1 more) count as theirs" in said
    assert "If the classes are the lower ones (bird, bug, fruit), say --nested leaf" in said


def test_top_is_meant_and_nothing_is_said(tmp_path):
    data = read_folder(two_levels(tmp_path), nested="top")
    assert data.class_names == ("animals", "plants")
    assert not any("--nested" in note for note in data.notes)
    assert data.split_sha256 == read_folder(tmp_path).split_sha256


def test_leaf_makes_every_folder_with_pictures_a_class(tmp_path):
    write_classes(two_levels(tmp_path), {"animals": 2}, start=20_000)  # which has pictures of its own as well
    write_classes(tmp_path / "plants" / "tropical" / "wet", {"palm": 2}, start=30_000)
    data = read_folder(tmp_path, nested="leaf")
    assert data.class_names == ("animals", "bird", "bug", "fruit", "palm")
    assert sum(len(data[split]) for split in SPLITS) == 20
    (said,) = (note for note in data.notes if "one class" in note)
    assert "'bug' (animals/bug, plants/bug)" in said
    for split in SPLITS:
        assert all(item.path.split("/")[-2] == item.class_name for item in data[split].items)


def test_leaf_reads_below_the_splits(tmp_path):
    two_levels(tmp_path / "train")
    two_levels(tmp_path / "test")
    assert "--nested leaf" in " ".join(read_folder(tmp_path).notes)
    data = read_folder(tmp_path, nested="leaf")
    assert data.class_names == ("bird", "bug", "fruit")
    assert data.test.count() == {0: 4, 1: 8, 2: 4}


def test_leaf_of_one_level_is_the_same(tmp_path):
    write_classes(tmp_path, {"cat": 4, "dog": 4})
    assert read_folder(tmp_path, nested="leaf").split_sha256 == read_folder(tmp_path).split_sha256
    with pytest.raises(ValueError, match="nested must be leaf or top, got 'deep'"):
        read_folder(tmp_path, nested="deep")


def test_leaf_refuses_an_empty_folder_as_before(tmp_path):
    write_classes(tmp_path, {"cat": 4, "dog": 0})
    with pytest.raises(ValueError, match="1 class folders hold no picture: dog"):
        read_folder(tmp_path, nested="leaf")
