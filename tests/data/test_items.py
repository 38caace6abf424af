from __future__ import annotations

import json

import pytest
import torch

from cliptune.data.items import Dataset, Item, Split
from tests.data.pictures import noise

NAMES = ("red fox", "puma", "lynx")


def in_memory(counts, prefix="train", start=0):
    labels = [label for label, count in enumerate(counts) for _ in range(count)]
    pictures = [noise(start + i) for i in range(len(labels))]
    return Split.of_images(pictures, labels, NAMES, prefix=prefix)


def dataset(**changes):
    parts = {
        "train": in_memory((5, 3, 6)),
        "val": in_memory((5, 5, 5), "val", 100),
        "test": in_memory((2, 2, 2), "test", 200),
    }
    return Dataset("cats", NAMES, **{**parts, **changes})


def test_files_and_memory_share_one_interface(tmp_path):
    for i in range(3):
        noise(i).save(tmp_path / f"{i}.png")
    files = Split.of_files(tmp_path, [Item(f"{i}.png", i, NAMES[i]) for i in range(3)])
    memory = in_memory((1, 1, 1))
    assert (files.in_memory, memory.in_memory) == (False, True)
    for split in (files, memory):
        assert len(split) == 3
        assert torch.equal(split.labels, torch.tensor([0, 1, 2]))
        assert split.image(2).tobytes() == noise(2).tobytes()
        assert split.subset([2, 0, 2]).image(0).tobytes() == noise(2).tobytes()
        assert split.subset([2, 0, 2]).labels.tolist() == [2, 0, 2]
        part = split.relabelled([2, 1])
        assert [(item.label, item.class_name) for item in part.items] == [(1, "puma"), (0, "lynx")]
        assert part.image(1).tobytes() == noise(2).tobytes()
        assert part.digest(1) == split.digest(2)
        assert part.key(1) == split.key(2)
    assert files.ids == ("0.png", "1.png", "2.png")
    assert memory.ids[2] == "train/000002"
    assert len(Split.empty()) == 0
    assert Split.empty().labels.shape == (0,)


def test_few_shot_keeps_test_whole_and_says_which_classes_are_small():
    whole = dataset()
    with pytest.warns(UserWarning, match=r"1 of 3 classes have fewer than 4 training images: 'puma' \(3\)"):
        sampled = whole.few_shot(4, seed=2)
    assert sampled.train.count() == {0: 4, 1: 3, 2: 4}
    assert sampled.val.count() == {0: 4, 1: 4, 2: 4}
    assert sampled.test is whole.test
    assert "all used once" in sampled.notes[-1]
    assert sampled.sampling == {"shots": 4, "seed": 2, "repeat": False, "rng": "cpython-random"}
    assert sampled.split_sha256 == whole.split_sha256
    with pytest.warns(UserWarning, match="drawn with repetition"):
        assert whole.few_shot(4, seed=2, repeat=True).train.count() == {0: 4, 1: 4, 2: 4}
    with pytest.raises(ValueError, match="Ask for fewer shots"):
        whole.few_shot(4, seed=2, strict=True)
    assert whole.few_shot(0, seed=2) is whole


def test_sampling_twice_or_after_the_cut_is_refused():
    whole = dataset()
    with pytest.raises(ValueError, match="already sampled"):
        whole.few_shot(2, seed=1).few_shot(1, seed=1)
    with pytest.raises(ValueError, match="already cut to its base classes"):
        whole.subset("base").few_shot(1, seed=1)


def test_classes_are_cut_once():
    whole = dataset()
    new = whole.subset("new")
    assert (new.class_names, new.classes, new.test.labels.tolist()) == (("lynx",), "new", [0, 0])
    assert new.subset("new") is new
    assert whole.subset("all") is whole
    with pytest.raises(ValueError, match="holds only its new classes"):
        new.subset("base")
    only = Dataset("one", ("fox",), Split.of_images([noise(0)], [0], ["fox"]), Split.empty(), Split.empty())
    with pytest.raises(ValueError, match="need at least two"):
        only.subset("new")


def test_classes_of_data_without_training_images_are_cut_by_name():
    tested = dataset(train=Split.empty(), val=Split.empty())
    assert tested.subset("base").class_names == ("red fox", "puma")


def test_descriptor_names_pictures_by_relative_path_and_content(tmp_path):
    for i in range(4):
        noise(i).save(tmp_path / f"{i}.png")
    split = Split.of_files(tmp_path, [Item(f"{i}.png", i % 2, NAMES[i % 2]) for i in range(4)])
    whole = Dataset("pets", NAMES[:2], split, Split.empty(), split.subset([3]), root=tmp_path)
    descriptor = whole.few_shot(1, seed=1).descriptor()
    text = json.dumps(descriptor)
    assert str(tmp_path) not in text
    assert descriptor["sampling"]["shots"] == 1
    assert descriptor["test"]["n"] == 1
    for path, label, sha256 in descriptor["train"]:
        i = split.ids.index(path)
        assert (label, sha256) == (i % 2, split.digest(i))
    assert descriptor["split_sha256"] == whole.split_sha256
    noise(9).save(tmp_path / f"{descriptor['train'][0][0]}")
    assert whole.few_shot(1, seed=1).descriptor()["train"] != descriptor["train"]


def test_split_hash_sees_order_labels_and_pixels_in_memory():
    whole = dataset()
    assert dataset().split_sha256 == whole.split_sha256
    changed = [
        dataset(train=whole.train.subset(range(13, -1, -1))),
        dataset(train=in_memory((5, 4, 5))),
        dataset(train=in_memory((5, 3, 6), start=1)),
        dataset(val=whole.test, test=whole.val),
    ]
    assert len({other.split_sha256 for other in [whole, *changed]}) == 5


def test_unreadable_pictures_are_listed(tmp_path):
    noise(0).save(tmp_path / "good.png")
    (tmp_path / "bad.png").write_bytes((tmp_path / "good.png").read_bytes()[:60])
    split = Split.of_files(tmp_path, [Item(path, 0, "x") for path in ("good.png", "bad.png", "gone.png")])
    told: list[tuple[int, int]] = []
    sentences = split.unreadable(threads=2, progress=lambda *how_far: told.append(how_far))
    assert told == [(1, 3), (2, 3), (3, 3)]
    assert len(sentences) == 2
    assert "bad.png cannot be decoded" in sentences[0]
    assert "gone.png: expected a file" in sentences[1]


def test_wrong_parts_are_refused():
    with pytest.raises(ValueError, match="2 pictures and 1 labels"):
        Split.of_images([noise(0), noise(1)], [0], NAMES)
    with pytest.raises(ValueError, match="between 0 and 2 for 3 class names, got 3"):
        Split.of_images([noise(0)], [3], NAMES)
    with pytest.raises(ValueError, match=r"exactly one \{\}"):
        dataset(template="a photo")
    with pytest.raises(ValueError, match="train holds train/000008 with label 2"):
        Dataset("cats", NAMES[:2], in_memory((5, 3, 6)), Split.empty(), Split.empty())
    with pytest.raises(ValueError, match="splits are train, val, test, got 'dev'"):
        dataset()["dev"]
