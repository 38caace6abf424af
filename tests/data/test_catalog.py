from __future__ import annotations

import json
import subprocess
import sys

import pytest
import torch

import cliptune.data
from cliptune.data import catalog
from cliptune.data.catalog import Entry, from_images, list_data, load_data
from cliptune.data.items import SPLITS
from cliptune.data.own.split_files import make_split
from tests.data.pictures import noise, write_classes


@pytest.fixture
def photos(tmp_path):
    write_classes(tmp_path / "photos", {"fox": 8, "puma": 8, "red_panda": 8})
    return tmp_path / "photos"


def test_a_path_is_read_by_what_it_is(photos, tmp_path):
    folder = load_data(photos)
    (tmp_path / "split.json").write_text(json.dumps(make_split(folder)))
    split = load_data(tmp_path / "split.json", photos)
    assert split.split_sha256 == folder.split_sha256
    rows = "".join(f"{item.path},{item.class_name}\n" for item in folder.train.items)
    (photos / "list.csv").write_text("image,label\n" + rows)
    listed = load_data(str(photos / "list.csv"), fractions=(1, 0, 0)).train
    assert set(listed.items) == set(folder.train.items)
    assert load_data("photos", tmp_path).split_sha256 == folder.split_sha256
    assert load_data(tmp_path / "split.json", root=photos, template="a {}.").template == "a {}."


def test_sampling_comes_before_the_class_cut(photos):
    whole = load_data(photos, shots=2, seed=3)
    base = load_data(photos, shots=2, seed=3, classes="base")
    assert base.class_names == ("fox", "puma")
    assert base.train.ids == whole.train.ids[:4]
    assert (base.classes, base.sampling) == ("base", whole.sampling)
    assert load_data(photos, shots=2, seed=3, classes="new").train.ids == whole.train.ids[4:]
    with pytest.raises(ValueError, match="fewer than 99"):
        load_data(photos, shots=99, strict=True)


def read_made_up(member, root=None, *, size=4):
    return from_images([noise(i) for i in range(size)], [0] * size, [member])


def made_up_members():
    return {"circles": "round things", "squares": "square things"}


@pytest.fixture
def made_up(monkeypatch):
    family = Entry("made-up", "for the test", __name__, "read_made_up", "made_up_members", ("mu",))
    monkeypatch.setattr(catalog, "ENTRIES", [family])


@pytest.mark.usefixtures("made_up")
def test_families_are_found_by_name_and_alias():
    assert load_data("made-up/circles").class_names == ("circles",)
    assert len(load_data("MU/Squares", size=2).train) == 2
    assert list_data() == [
        {"name": "made-up", "summary": "for the test"},
        {"name": "made-up/circles", "summary": "round things"},
        {"name": "made-up/squares", "summary": "square things"},
    ]


@pytest.mark.usefixtures("made_up")
@pytest.mark.parametrize(
    ("name", "options", "error", "sentence"),
    [
        ("made-up/circle", {}, FileNotFoundError, "Did you mean made-up/circles"),
        ("mad-up/squares", {}, FileNotFoundError, r"Did you mean made-up/squares"),
        ("zzz", {}, FileNotFoundError, "found none of them. Known names: made-up, "),
        ("made-up", {}, ValueError, "is a family: say which one, made-up/circles, made-up/squares"),
        ("made-up/circles", {"sise": 3}, TypeError, r"no option 'sise'\. Did you mean 'size'\?"),
        ("made-up/circles", {"classes": "old"}, ValueError, "one of all, base, new, got 'old'"),
        ("gone.csv", {}, FileNotFoundError, r"gone\.csv: expected a list of pictures, found nothing"),
    ],
)
def test_unknown_names_and_options_get_the_nearest(name, options, error, sentence):
    with pytest.raises(error, match=sentence):
        load_data(name, **options)


def test_pictures_in_memory():
    images = torch.rand(6, 3, 9, 7)
    data = from_images(images, torch.tensor([0, 0, 0, 1, 1, 1]), ["fox", "puma"], test=(images[:2], [0, 1]))
    assert [len(data[split]) for split in SPLITS] == [6, 0, 2]
    assert data.test.ids == ("test/000000", "test/000001")
    assert data.few_shot(2, seed=1).subset("new").train.labels.tolist() == [0, 0]
    cut = from_images(images, [0] * 6, ["fox"], fractions=(0.5, 0, 0.5))
    assert [len(cut[split]) for split in SPLITS] == [3, 0, 3]
    with pytest.raises(ValueError, match="either fractions, or val and test"):
        from_images(images, [0] * 6, ["fox"], fractions=(0.5, 0, 0.5), test=(images, [0] * 6))


def test_exports_are_lazy_and_complete():
    for name in cliptune.data.__all__:
        assert getattr(cliptune.data, name).__module__.startswith("cliptune.data.")
    with pytest.raises(AttributeError, match="no attribute 'load_dat'"):
        getattr(cliptune.data, "load_dat")  # noqa: B009
    code = "import sys, cliptune.data; print('torch' in sys.modules, 'sklearn' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.split() == ["False", "False"]


def test_tinyworld_is_known_by_name():
    assert "tinyworld/objects" in [row["name"] for row in list_data()]
    data = load_data("tinyworld/objects", shots=2, seed=1, classes="base", train=3, val=1, test=1)
    n_classes = len(data.class_names)
    assert [len(data[split]) for split in SPLITS] == [2 * n_classes, n_classes, n_classes]
    whole = load_data("tinyworld/objects", shots=2, seed=1, train=3, val=1, test=1)
    assert data.train.ids == whole.train.ids[: 2 * n_classes]
    assert data.train.image(0).tobytes() == whole.train.image(0).tobytes()
    assert data.descriptor()["train"][0][2] == whole.train.digest(0)
