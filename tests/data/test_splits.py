from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from cliptune.data.items import Dataset, Item, Split
from cliptune.data.splits import base_or_new, split_trainval, stratified
from tests.data.pictures import GOLDEN

BASE_NEW = json.loads((GOLDEN / "data_b2n.json").read_text())
REPLAY = json.loads((GOLDEN / "data_fewshot.json").read_text())


def listed(rows, names):
    return Split.of_files(Path("nowhere"), [Item(path, label, names[label]) for path, label in rows])


def dataset_of(train, test, names, val=()):
    return Dataset("listed", tuple(names), *(listed(rows, names) for rows in (train, val, test)))


@pytest.mark.parametrize("size", BASE_NEW["cases"])
@pytest.mark.parametrize("classes", ["all", "base", "new"])
def test_base_and_new_are_cut_and_relabelled_as_in_the_reference(size, classes):
    case = BASE_NEW["cases"][size]
    rows = [(f"{label}_{i}", label) for label in case["list_order_of_labels"] for i in range(case["items_per_class"])]
    part = dataset_of(rows, rows, case["classes"]).subset(classes)
    expected = case[classes]
    assert list(part.class_names) == expected["classnames"]
    old = dict(rows)
    for split in (part.train, part.test):
        assert [[old[item.path], item.label] for item in split.items] == expected["old_to_new"]
        assert all(item.class_name == part.class_names[item.label] for item in split.items)


@pytest.mark.parametrize("classes", ["base", "new"])
def test_a_label_without_training_images_belongs_to_neither_half(classes):
    gap = BASE_NEW["gap_label4_missing_in_train"][classes]
    train = [(f"tr_{label}", label) for label in range(10) if label != 4]
    test = [(f"te_{label}", label) for label in range(10)]
    part = dataset_of(train, test, [f"name {i}" for i in range(10)]).subset(classes)
    assert [[item.path, item.label] for item in part.train.items] == gap["train"]
    assert [[item.path, item.label] for item in part.test.items] == gap["test"]


@pytest.mark.parametrize("classes", ["base", "new"])
def test_sampling_comes_before_the_cut(classes):
    expected = REPLAY["fewshot_then_subsample_seed1_shots4_shuffled"][classes]
    lists = REPLAY["lists"]["shuffled"]
    names = {label: name for _, label, name in lists["train"]}
    rows = {split: [(path, label) for path, label, _ in lists[split]] for split in lists}
    whole = dataset_of(rows["train"], rows["test"], [names[i] for i in range(len(names))], rows["val"])
    with pytest.warns(UserWarning, match="fewer than 4"):
        part = whole.few_shot(4, seed=1).subset(classes)
    assert list(part.class_names) == expected["classnames"]
    for split in ("train", "val", "test"):
        assert [[item.path, item.label] for item in part[split].items] == expected[split]


def test_the_base_half_is_the_larger_one():
    assert base_or_new([3, 1, 1, 7], "base") == [1, 3]
    assert base_or_new([3, 1, 1, 7], "new") == [7]
    with pytest.raises(ValueError, match="expected one of all, base, new, got 'novel'"):
        base_or_new([0], "novel")


@pytest.mark.parametrize("seed", [1, 2])
def test_stratified_split_equals_the_fields_fallback(seed):
    expected = REPLAY["raw_split"][f"read_and_split_data/seed{seed}"]
    paths = [f"c{c}/i{i:02d}.jpg" for c, n in enumerate((6, 11, 20)) for i in range(n)]
    parts = stratified([int(path[1]) for path in paths], seed)
    for split, indices in zip(("train", "val", "test"), parts, strict=True):
        assert [paths[i] for i in indices] == expected[split]


@pytest.mark.parametrize("seed", [1, 2])
def test_val_is_cut_from_the_official_training_list_as_in_the_field(seed):
    expected = REPLAY["raw_split"][f"split_trainval/seed{seed}"]
    paths = [f"c{c}/i{i:02d}.jpg" for c, n in enumerate((6, 11, 20)) for i in range(n)]
    train, val = split_trainval([int(path[1]) for path in paths], seed)
    assert [paths[i] for i in train] == expected["train"]
    assert [paths[i] for i in val] == expected["val"]


@pytest.mark.parametrize(("n", "counts"), [(1, (1, 0, 0)), (2, (1, 0, 1)), (3, (2, 0, 1)), (10, (5, 2, 3))])
def test_small_classes_get_train_first_then_test(n, counts):
    assert tuple(map(len, stratified([0] * n, seed=1))) == counts


def test_every_image_lands_in_one_part_and_shares_may_be_zero():
    labels = [label for label in range(4) for _ in range(9)]
    parts = stratified(labels, seed=5, fractions=(0.7, 0.3, 0))
    assert sorted(i for part in parts for i in part) == list(range(36))
    assert not parts[2]
    assert Counter(labels[i] for i in parts[1]) == dict.fromkeys(range(4), 3)


@pytest.mark.parametrize("fractions", [(0.5, 0.5), (0, 0.5, 0.5), (0.9, 0.2, -0.1), (0.5, 0.2, 0.2)])
def test_wrong_fractions_are_refused(fractions):
    with pytest.raises(ValueError, match="sum 1"):
        stratified([0, 1], seed=1, fractions=fractions)
