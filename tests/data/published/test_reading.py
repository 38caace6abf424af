from __future__ import annotations

import json
import os
import random
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cliptune.data import load_data
from cliptune.data.fewshot import groups
from cliptune.data.items import SPLITS
from cliptune.data.published.facts import published
from tests.data.published import miniatures
from tests.data.published.miniatures import MINIATURES

SPOKEN = {
    "imagenet": ("tench", "goldfish", "missile", "missile"),
    "caltech101": ("face", "leopard", "motorbike", "accordion", "airplane"),
    "oxford_pets": ("abyssinian", "american bulldog", "bengal"),
    "stanford_cars": ("2012 Acura RL Sedan", "2000 AM General Hummer SUV", "2012 Ram C/V Cargo Van Minivan"),
    "oxford_flowers": ("pink primrose", "wild pansy", "cape flower"),
    "food101": ("apple pie", "guacamole", "waffles"),
    "fgvc_aircraft": ("707-320", "F/A-18", "Cessna 560"),
    "sun397": ("abbey", "indoor apse", "outdoor ice skating rink"),
    "dtd": ("banded", "blotchy", "braided"),
    "eurosat": ("Annual Crop Land", "Forest", "Sea or Lake"),
    "ucf101": ("Blow Dry Hair", "Blowing Candles", "Hammering", "Hammer Throw", "Yo Yo"),
    "imagenetv2": tuple(f"class {i}" for i in range(12)),
    "imagenet_sketch": ("tench", "goldfish", "missile", "missile"),
    "imagenet_a": ("goldfish", "missile"),
    "imagenet_r": ("goldfish", "missile"),
    "resisc45": ("airplane", "basketball court", "wetland"),
}

OWN = [name for name, facts in published().items() if facts.fallback]


def opened(name: str, root: Path, **options):
    MINIATURES[name](root)
    return load_data(name, root=root, **options)


def test_every_published_data_set_has_a_miniature():
    assert set(MINIATURES) == set(published())


@pytest.mark.parametrize("name", MINIATURES)
def test_each_layout_is_read_as_it_is(name, tmp_path):
    data = opened(name, tmp_path)
    assert data.class_names == SPOKEN[name]
    assert (data.name, data.template) == (name, published()[name].template)
    for split in SPLITS:
        assert len(data[split]) > 0 or (split != "test" and name.startswith("imagenet"))
        assert all(item.class_name == data.class_names[item.label] for item in data[split].items)
        assert data[split].unreadable() == []
    assert any("the published data set has" in note for note in data.notes)


@pytest.mark.parametrize("name", MINIATURES)
def test_paths_are_relative_to_the_image_folder(name, tmp_path):
    place = published()[name].places[0]
    data = opened(name, tmp_path)
    assert data.root == tmp_path / place.folder / place.images  # where paths in the field's pickles are cut
    assert (data.root / data.test.ids[0]).is_file()


@pytest.mark.parametrize("name", [name for name, facts in published().items() if facts.split_file])
def test_the_split_files_order_is_kept(name, tmp_path):
    data = opened(name, tmp_path)
    rows = json.loads(next(tmp_path.glob(f"*/{published()[name].split_file}")).read_text())
    for split in SPLITS:
        assert [[item.path, item.label] for item in data[split].items] == [row[:2] for row in rows[split]]


@pytest.mark.parametrize("name", MINIATURES)
def test_picks_replay_the_rule_on_every_layout(name, tmp_path):
    whole = opened(name, tmp_path)
    few = load_data(name, root=tmp_path, shots=2, seed=3)
    rng = random.Random(3)
    for split in ("train", "val"):
        expected = []
        for rows in groups(whole[split].labels.tolist()).values():
            expected += rng.sample(rows, 2) if len(rows) >= 2 else rows
        assert few[split].ids == tuple(whole[split][i].path for i in expected)
    assert few.test.ids == whole.test.ids


def test_classes_first_come_in_the_files_order_not_in_label_order(tmp_path):
    assert list(groups(opened("stanford_cars", tmp_path).train.labels.tolist())) == [2, 0, 1]
    assert list(groups(opened("oxford_flowers", tmp_path).train.labels.tolist())) == [2, 0, 1]


def test_base_and_new_come_after_the_sampling(tmp_path):
    whole = opened("oxford_pets", tmp_path, shots=2, seed=1)
    base = load_data("pets", root=tmp_path, shots=2, seed=1, classes="base")
    new = load_data("OxfordPets", root=tmp_path, shots=2, seed=1, classes="new")
    assert (base.class_names, new.class_names) == (("abyssinian", "american bulldog"), ("bengal",))
    assert base.train.ids + new.train.ids == whole.train.ids


@pytest.mark.parametrize("name", OWN)
def test_a_split_is_made_only_when_asked(name, tmp_path):
    MINIATURES[name](tmp_path)
    path = next(tmp_path.glob(f"*/{published()[name].split_file}"))
    theirs = load_data(name, root=tmp_path)
    path.unlink()
    with pytest.raises(FileNotFoundError, match=f"expected the split file .*{path.name}, found nothing. Fetch it from"):
        load_data(name, root=tmp_path)
    data = load_data(name, root=tmp_path, make_split=True, split_seed=5)
    assert data.class_names == theirs.class_names
    assert any("not the field's split" in note for note in data.notes)
    assert load_data(name, root=tmp_path, make_split=True, split_seed=5).split_sha256 == data.split_sha256
    known = {item.path: item.label for split in SPLITS for item in theirs[split].items}
    made = {item.path: item.label for split in SPLITS for item in data[split].items}
    assert made == known
    if published()[name].fallback in ("pets", "cars", "sun", "ucf"):
        assert set(data.test.ids) == set(theirs.test.ids)
    assert not path.exists()


def test_another_split_file_can_be_given(tmp_path):
    MINIATURES["dtd"](tmp_path)
    other = tmp_path / "mine.json"
    rows = json.loads((tmp_path / "dtd/split_zhou_DescribableTextures.json").read_text())
    other.write_text(json.dumps({**rows, "train": rows["train"][::-1]}))
    data = load_data("dtd", root=tmp_path, split=other)
    assert data.train.ids == load_data("dtd", root=tmp_path).train.ids[::-1]
    with pytest.raises(ValueError, match="comes with its own split"):
        opened("fgvc_aircraft", tmp_path, make_split=True)


def test_a_known_copy_of_a_split_file_is_told_from_others(tmp_path):
    notes = opened("oxford_pets", tmp_path).notes
    assert any("differs from the copy whose checksum is known" in note for note in notes)
    assert not any("checksum" in note for note in opened("sun397", tmp_path).notes)  # none is known


def test_old_names_of_eurosat_are_renamed_once(tmp_path):
    miniatures.eurosat(tmp_path / "old", old_names=True)
    miniatures.eurosat(tmp_path / "new")
    old, new = (load_data("eurosat", root=tmp_path / age) for age in ("old", "new"))
    assert old.class_names == new.class_names == SPOKEN["eurosat"]
    assert [item.class_name for item in old.train.items] == [item.class_name for item in new.train.items]


def test_imagenet_is_sorted_and_never_keyed_by_name(tmp_path):
    data = opened("imagenet", tmp_path)
    assert data.train.ids[:3] == tuple(f"train/n01440764/n01440764_{i}.JPEG" for i in (10, 8, 9))
    assert sorted(set(data.train.labels.tolist())) == [0, 1, 2, 3]
    assert len(data.val) == 0
    assert any("val is the test split" in note for note in data.notes)
    miniatures.imagenet(tmp_path / "other", "ImageNet", ".")
    assert load_data("imagenet", root=tmp_path / "other").train.ids == data.train.ids


def test_folder_10_of_imagenetv2_is_label_10(tmp_path):
    data = opened("imagenetv2", tmp_path)
    assert {item.path: item.label for item in data.test.items} == {f"{i}/picture{i}.jpeg": i for i in range(12)}


def test_variants_of_200_classes_name_only_those(tmp_path):
    data = opened("imagenet_a", tmp_path)
    assert data.class_names == ("goldfish", "missile")
    assert data.test.labels.tolist() == [0, 1]
    assert published()["imagenet_a"].classes == published()["imagenet_r"].classes == 200


def test_grey_cmyk_and_turned_pictures_are_read_as_in_the_field(tmp_path):
    for name, file in (
        ("caltech101", "caltech-101/101_ObjectCategories/accordion/train_000.jpg"),
        ("dtd", "dtd/images/banded/train_000.jpg"),
        ("oxford_pets", "oxford_pets/images/Bengal_1.jpg"),
    ):
        data = opened(name, tmp_path)
        row = next(i for i, path in enumerate(data.train.ids) if file.endswith(path))
        with Image.open(tmp_path / file) as image:
            expected = np.asarray(image.convert("RGB"))  # no turning by the EXIF tag
        np.testing.assert_array_equal(np.asarray(data.train.image(row)), expected)


def test_links_and_a_data_sets_own_folder_are_followed(tmp_path):
    MINIATURES["food101"](tmp_path / "disk")
    (tmp_path / "data").mkdir()
    os.symlink(tmp_path / "disk/food-101", tmp_path / "data/food-101")
    linked = load_data("food101", root=tmp_path / "data")
    assert linked.split_sha256 == load_data("food", root=tmp_path / "disk/food-101").split_sha256
    by_path = load_data(tmp_path / "disk/food-101")
    assert (by_path.name, by_path.split_sha256) == ("food101", linked.split_sha256)


def test_a_folder_of_ones_own_may_have_a_data_sets_name(tmp_path, monkeypatch):
    for folder in ("rose", "tulip"):
        for i in range(4):
            miniatures.picture(tmp_path / f"flowers/{folder}/{i}.png", i)
    monkeypatch.chdir(tmp_path)
    assert load_data("flowers").class_names == load_data("flowers", root=tmp_path).class_names == ("rose", "tulip")
    MINIATURES["oxford_flowers"](tmp_path)
    assert load_data("flowers", root=tmp_path).class_names == SPOKEN["oxford_flowers"]


def edited(root: Path, change) -> None:
    path = root / "oxford_pets/split_zhou_OxfordPets.json"
    rows = json.loads(path.read_text())
    change(rows)
    path.write_text(json.dumps(rows))


@pytest.mark.parametrize(
    ("change", "error", "sentence"),
    [
        (lambda rows: rows["train"].append(["gone_1.jpg", 0, "abyssinian"]), FileNotFoundError, "1 listed pictures"),
        (lambda rows: rows["val"].append(["../x.jpg", 0, "abyssinian"]), ValueError, "'../x.jpg' leaves the root"),
        (lambda rows: rows["val"].append(["/etc/x.jpg", 0, "abyssinian"]), ValueError, "leaves the root"),
        (lambda rows: rows["test"].append(["a_1.jpg", 9, "lynx"]), ValueError, "labels must be 0, 1, 2"),
        (lambda rows: rows["test"].append(["a_1.jpg", 0, "lynx"]), ValueError, "label 0 is called"),
        (lambda rows: rows.pop("test"), ValueError, "lists train, val and test"),
    ],
)
def test_wrong_split_files_get_a_sentence(change, error, sentence, tmp_path):
    MINIATURES["oxford_pets"](tmp_path)
    edited(tmp_path, change)
    with pytest.raises(error, match=sentence):
        load_data("oxford_pets", root=tmp_path)


def test_classes_without_pictures_after_the_cut_are_named(tmp_path):
    MINIATURES["oxford_pets"](tmp_path)
    edited(tmp_path, lambda rows: rows.update(test=[row for row in rows["test"] if row[1] != 1]))
    base = load_data("oxford_pets", root=tmp_path, classes="base")
    assert any("'american bulldog' has no test images" in note for note in base.notes)
    edited(tmp_path, lambda rows: rows.update(train=[row for row in rows["train"] if row[1] != 1]))
    new = load_data("oxford_pets", root=tmp_path, classes="new")
    assert any("'american bulldog' has no training images, so it is in neither half" in note for note in new.notes)


def test_missing_folders_and_roots_get_a_sentence(tmp_path):
    with pytest.raises(ValueError, match=r"oxford_pets: give root \(--root\), the folder that holds oxford_pets/"):
        load_data("oxford_pets")
    with pytest.raises(FileNotFoundError, match="the root .*nowhere is no folder"):
        load_data("oxford_pets", root=tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match=r"pictures in the folder .*oxford_pets/images, found none there"):
        load_data("oxford_pets", root=tmp_path)
    with pytest.raises(ValueError, match="'all11' is a group of data sets: open one of imagenet, caltech101"):
        load_data("all11", root=tmp_path)
    with pytest.raises(TypeError, match=r"no option 'sedd'"):
        load_data("dtd", root=tmp_path, sedd=1)


@pytest.mark.parametrize(
    ("name", "file", "content", "sentence"),
    [
        ("fgvc_aircraft", "images_variant_val.txt", "0034309 Concorde", "has the line '0034309 Concorde'"),
        ("fgvc_aircraft", "images_variant_val.txt", "../1 707-320", "leaves the root"),
        ("imagenet", "classnames.txt", "n01440764", "expected a WordNet id, a blank and a class name"),
        ("imagenet", "classnames.txt", "n01440764 tench", "must name the same classes, but n01443537 is not in"),
        ("imagenetv2", "classnames.txt", "n00000001 tench", "expected the folders 0 to 0 in"),
    ],
)
def test_wrong_label_files_get_a_sentence(name, file, content, sentence, tmp_path):
    MINIATURES[name](tmp_path)
    (tmp_path / published()[name].places[0].folder / file).write_text(content)
    with pytest.raises(ValueError, match=sentence):
        load_data(name, root=tmp_path)


@pytest.mark.parametrize(
    ("name", "file", "content", "sentence"),
    [
        ("stanford_cars", "devkit/cars_meta.mat", b"no matrix", "cannot be read as a MATLAB file"),
        ("oxford_flowers", "imagelabels.mat", None, "imagelabels.mat, found nothing"),
        ("oxford_flowers", "cat_to_name.json", b"{}", "cat_to_name.json has no name for class 1"),
        ("oxford_pets", "annotations/trainval.txt", b"Bengal_1 x", "has the line 'Bengal_1 x'"),
        ("sun397", "Training_01.txt", b"/b/bar/x.jpg", "whose folder is not in ClassName.txt"),
        ("sun397", "Training_01.txt", b"/../bar/x.jpg", "leaves the root"),
        ("ucf101", "ucfTrainTestlist/trainlist01.txt", b"Zumba/v.avi 1", "whose action is not in classInd.txt"),
        ("ucf101", "ucfTrainTestlist/classInd.txt", b"one YoYo", "lines of a number and an action"),
    ],
)
def test_wrong_official_lists_get_a_sentence(name, file, content, sentence, tmp_path):
    MINIATURES[name](tmp_path)
    folder = tmp_path / published()[name].places[0].folder
    (folder / published()[name].split_file).unlink()
    (folder / file).unlink()
    if content is not None:
        (folder / file).write_bytes(content)
    with pytest.raises((ValueError, FileNotFoundError), match=sentence):
        load_data(name, root=tmp_path, make_split=True)
