from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

import cliptune
from cliptune.data import from_images, load_data
from cliptune.data.images import ImageError
from cliptune.doctor import Diagnosis, examine, quick
from cliptune.doctor.findings import ERROR, HINT, WARNING, Finding, ordered
from tests.data.pictures import noise, write_classes


def kinds(diagnosis: Diagnosis) -> dict[str, int]:
    found: dict[str, int] = {}
    for finding in diagnosis.findings:
        found[finding.kind] = found.get(finding.kind, 0) + finding.count
    return found


def test_sound_pictures_are_found_healthy(sound):
    found = examine(load_data(sound))
    assert found.healthy
    assert not found.findings
    assert found.images == {"train": 32, "val": 0, "test": 16}
    assert found.classes["heart"] == {"train": 8, "val": 0, "test": 4}


def test_every_illness_is_found_once(ill):
    found = examine(load_data(ill))
    assert kinds(found) == {
        "unreadable": 1,
        "leak": 2,
        "conflict": 1,
        "duplicate": 1,
        "near_leak": 1,
        "near_duplicate": 1,
        "blank": 1,
        "unread": 3,
        "tiny": 1,
        "long": 1,
    }
    assert not found.healthy
    leaks = found.of("leak")
    assert leaks is not None
    assert set(leaks.cases) == {
        "train: train/cross/00.png = test: test/cross/copied.png",
        "train: train/ring/01.png = test: test/ring/stored.bmp",
    }
    near = found.of("near_leak")
    assert near is not None
    assert near.cases == ("train: train/ring/02.png = test: test/ring/smaller.jpg",)
    unread = {
        finding.text.split(" in class")[0]: finding.cases for finding in found.findings if finding.kind == "unread"
    }
    assert unread == {
        "Files of the kind .txt": ("train/star/page.txt",),
        "Files of the kind HEIC": ("train/star/phone.mov",),
        "Files of the kind PNG": ("train/star/.hidden.png",),
    }


def test_the_gravest_comes_first_and_then_the_more_frequent():
    one = [Finding("a", HINT, "", ("x",)), Finding("b", ERROR, "", ("x",)), Finding("c", ERROR, "", ("x", "y"))]
    assert [finding.kind for finding in ordered([*one, Finding("d", WARNING, "", ("x",))])] == ["c", "b", "d", "a"]


def test_a_diagnosis_is_plain_values(ill):
    found = examine(load_data(ill))
    plain = json.loads(json.dumps(found.plain()))
    assert plain["healthy"] is False
    assert sum(finding["count"] for finding in plain["findings"]) == sum(len(f["cases"]) for f in plain["findings"])
    assert plain["classes"]["star"]["train"] == 12


def test_progress_counts_every_picture(sound):
    told = []
    examine(load_data(sound), progress=lambda *step: told.append(step))
    assert told == [("pictures", n, 48) for n in range(1, 49)]


def test_labels_that_are_wrong_are_doubted():
    data = load_data("tinyworld/garden", shots=40)
    wrong = range(0, len(data.train), 40)  # one of each class
    labels = [(item.label + 5) % 12 if i in wrong else item.label for i, item in enumerate(data.train.items)]
    images = [np.asarray(data.train.image(i)) for i in range(len(data.train))]
    found = examine(from_images(images, labels, data.class_names), cliptune.load_clip("mini"))
    doubts = found.of("mislabel")
    assert doubts is not None
    assert doubts.severity == HINT
    planted = [f"train/{i:06d} looks like {data.class_names[data.train[i].label]!r}" for i in wrong]
    assert sum(any(case.startswith(p) for case in doubts.cases[:16]) for p in planted) >= 8
    assert "cross-validated, agrees with" in found.looked[1]


def test_classes_are_counted(tmp_path):
    write_classes(tmp_path / "train", {"cat": 20, "dog": 2, "owl": 1})
    write_classes(tmp_path / "test", {"cat": 2}, start=10_000)
    found = examine(load_data(tmp_path))
    few, uneven = found.of("few_pictures"), found.of("uneven")
    assert few is not None
    assert few.cases == ("owl: 1",)
    assert uneven is not None
    assert uneven.cases == ("cat: 20", "owl: 1")
    assert "20 times" in uneven.text


def test_one_class_alone_is_an_error(tmp_path):
    write_classes(tmp_path, {"cat": 6})
    one = examine(load_data(tmp_path)).of("one_class")
    assert one is not None
    assert (one.severity, one.cases) == (ERROR, ("cat",))


def test_pictures_in_memory_are_looked_at_too():
    images = [np.asarray(noise(k)) for k in (1, 2, 3, 1)]
    found = examine(from_images(images, [0, 0, 1, 1], ["cat", "dog"]))
    conflict = found.of("conflict")
    assert conflict is not None
    assert conflict.cases == ("train: train/000000 = train: train/000003",)
    assert found.root is None


@pytest.mark.parametrize("near", [-1, 17])
def test_near_is_a_number_of_bits(near, dataset):
    with pytest.raises(ValueError, match="near must be from 0 to 16 bits"):
        examine(dataset, near=near)


def test_without_imagehash_it_says_what_was_not_looked_for(sound, monkeypatch):
    monkeypatch.setattr("cliptune.doctor.looks.importlib.util.find_spec", lambda name: None)
    found = examine(load_data(sound))
    assert "needs imagehash: pip install 'cliptune[doctor]'" in found.looked[0]


def test_the_quick_part_notes_leaks_and_conflicts_without_decoding(ill, monkeypatch):
    data = load_data(ill)
    monkeypatch.setattr(Image, "open", None)
    noted = quick(data)
    new = noted.notes[len(data.notes) :]
    assert [note.split(": ")[1].split(".")[0] for note in new] == [
        "The same pictures are in more than one of train, val and test, which flatters the numbers",
        "The same pictures are in several classes",
    ]
    assert "1 case: train: train/cross/00.png = test: test/cross/copied.png." in new[0]
    assert quick(noted).notes == noted.notes


def test_the_quick_part_refuses_on_demand(ill, sound):
    with pytest.raises(ValueError, match=r"Keep one.*several classes.*class folders are not read.*data doctor"):
        quick(load_data(ill), strict=True)


def test_the_quick_part_of_sound_pictures_says_nothing(sound):
    data = load_data(sound)
    assert quick(data, strict=True).notes == data.notes


def test_the_quick_part_names_all_whose_decoder_is_missing(ill, monkeypatch):
    for name in ("00", "01"):
        path = ill / "train" / "heart" / f"{name}.png"
        path.write_bytes((ill / "train" / "star" / "phone.mov").read_bytes())
    monkeypatch.setattr("cliptune.data.formats.decodable", lambda further: False)
    with pytest.raises(ImageError, match=r"HEIC cannot be decoded here.*pip install.*heart/00.png, train/heart/01.png"):
        quick(load_data(ill))


def test_the_quick_part_leaves_pictures_in_memory_alone(dataset):
    assert quick(dataset, strict=True) == dataset
