from __future__ import annotations

import json
import os
import pickle
import sys
import types

import pytest

from cliptune.data.fewshot_files import few_shot_record, import_few_shot_pickle, read_few_shot
from cliptune.data.own.folders import read_folder
from tests.data.pictures import write_classes

FOREIGN_ROOT = "/home/somebody/images/oxford_pets/images/"


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("data") / "images"
    for k, split in enumerate(("train", "val", "test")):
        write_classes(root / split, {"red_fox": 7, "puma": 5}, start=100 * k)
    return read_folder(root)


def store(tmp_path, record):
    (tmp_path / "picks.json").write_text(json.dumps(record))
    return tmp_path / "picks.json"


def picks(dataset):
    return [[(item.path, item.label) for item in split.items] for split in (dataset.train, dataset.val)]


def test_a_record_is_reproducible_and_gives_the_sampled_data_set(data, tmp_path):
    record = few_shot_record(data, 4, 2)
    assert few_shot_record(data, 4, 2) == record
    assert (record["format"], record["val_shots"], record["rng"]) == ("fewshot/1", 4, "cpython-random")
    first = record["train"]["indices"][0]
    assert record["train"]["items"][0] == [data.train.ids[first], 0, "puma"]
    assert str(data.root) not in json.dumps(record)
    again = read_few_shot(store(tmp_path, record), data)
    assert picks(again) == picks(data.few_shot(4, 2))
    assert again.descriptor() == data.few_shot(4, 2).descriptor()


def test_a_stale_record_is_drawn_again(data, tmp_path):
    record = {**few_shot_record(data, 2, 1), "split_sha256": "0" * 64}
    with pytest.warns(UserWarning, match="another version of images's split"):
        again = read_few_shot(store(tmp_path, record), data)
    assert picks(again) == picks(data.few_shot(2, 1))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"format": "fewshot/2"}, "expected format 'fewshot/1', got 'fewshot/2'"),
        ({"train": {"indices": [0], "items": []}}, "not those of its seed"),
        ({"rng": "imported", "train": {"indices": [0], "items": []}}, "contradict its indices"),
        ({"rng": "imported", "train": {"indices": [99], "items": []}}, "integers from 0 to 11"),
        ({"rng": "imported", "split_sha256": "0"}, "imported for another version"),
        ({"shots": None}, "incomplete"),
        ({"seed": []}, "shots and seed as whole numbers"),
        ({"shots": float("inf")}, "shots and seed as whole numbers"),
        ({"train": [0]}, "indices of train and val as lists"),
        ({"shots": 2**40, "repeat": True}, "says that every class has 1099511627776, so it was edited"),
    ],
)
def test_edited_records_are_refused(data, tmp_path, change, sentence):
    with pytest.raises(ValueError, match=sentence):
        read_few_shot(store(tmp_path, {**few_shot_record(data, 2, 1), **change}), data)


def test_other_files_are_refused(data, tmp_path):
    (tmp_path / "x.json").write_text("[")
    with pytest.raises(ValueError, match="expected JSON"):
        read_few_shot(tmp_path / "x.json", data)
    with pytest.raises(FileNotFoundError, match="found nothing"):
        read_few_shot(tmp_path / "y.json", data)


@pytest.fixture(params=["dassl.data.datasets.base_dataset", "datasets.utils"])
def datum(request, monkeypatch):
    """The class that the field's pickles name, made up here and gone when the file is read."""
    module = types.ModuleType(request.param)

    class Datum:
        def __init__(self, path, label):
            self._impath, self._label, self._domain, self._classname = path, label, 0, "name"

    Datum.__module__, Datum.__qualname__ = request.param, "Datum"
    module.Datum = Datum
    parts = request.param.split(".")
    for i in range(1, len(parts)):
        monkeypatch.setitem(sys.modules, ".".join(parts[:i]), types.ModuleType(".".join(parts[:i])))
    monkeypatch.setitem(sys.modules, request.param, module)
    return Datum


@pytest.mark.parametrize("protocol", [2, pickle.HIGHEST_PROTOCOL])
def test_published_pickles_are_read_without_their_class(data, tmp_path, datum, protocol):
    sampled = data.few_shot(2, 3)
    content = {
        split: [datum(FOREIGN_ROOT + item.path, item.label) for item in sampled[split].items]
        for split in ("train", "val")
    }
    (tmp_path / "picks.pkl").write_bytes(pickle.dumps(content, protocol=protocol))
    record = import_few_shot_pickle(tmp_path / "picks.pkl", data, shots=2, seed=3)
    assert record == {**few_shot_record(data, 2, 3), "rng": "imported"}
    assert picks(read_few_shot(store(tmp_path, record), data)) == picks(sampled)


def test_imported_picks_need_not_follow_the_rule(data, tmp_path, datum):
    content = {"train": [datum(FOREIGN_ROOT + data.train.ids[i], data.train[i].label) for i in (3, 1)]}
    (tmp_path / "picks.pkl").write_bytes(pickle.dumps(content, protocol=4))
    record = import_few_shot_pickle(tmp_path / "picks.pkl", data, shots=1, seed=1)
    assert record["train"]["indices"] == [3, 1]
    assert read_few_shot(store(tmp_path, record), data).train.ids == (data.train.ids[3], data.train.ids[1])


class Harmful:
    def __reduce__(self):
        return os.mkdir, ("harm",)


class Sly:
    def __reduce__(self):
        return getattr, ("text", "upper")


@pytest.mark.parametrize("value", [Harmful(), Sly(), pytest.raises, types.SimpleNamespace(x=1), print])
def test_pickles_with_any_other_class_are_refused_and_not_executed(data, tmp_path, monkeypatch, value):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "picks.pkl").write_bytes(pickle.dumps({"train": [value]}))
    with pytest.raises(ValueError, match=r"nothing else, but it asks for .*It was not executed"):
        import_few_shot_pickle(tmp_path / "picks.pkl", data, shots=1, seed=1)
    assert not (tmp_path / "harm").exists()


def test_pickles_with_other_content_are_refused(data, tmp_path, datum):
    def read(content):
        raw = content if isinstance(content, bytes) else pickle.dumps(content)
        (tmp_path / "picks.pkl").write_bytes(raw)
        import_few_shot_pickle(tmp_path / "picks.pkl", data, shots=1, seed=1)

    good = FOREIGN_ROOT + data.train.ids[0]
    with pytest.raises(ValueError, match="expected a dictionary of lists, got list"):
        read([1])
    with pytest.raises(ValueError, match="expected the lists train and val, got test"):
        read({"test": []})
    with pytest.raises(ValueError, match="expected a list of Datum, got str"):
        read({"train": "abc"})
    with pytest.raises(ValueError, match="Datum with a path and a label, got int"):
        read({"train": [3]})
    with pytest.raises(ValueError, match=r"has no image .* with label 1"):
        read({"train": [datum(good, 1)]})
    with pytest.raises(ValueError, match=r"has no image '/elsewhere/a\.png'"):
        read({"train": [datum("/elsewhere/a.png", 0)]})
    with pytest.raises(ValueError, match="was not executed"):
        read(pickle.dumps({"train": []})[:-3])
