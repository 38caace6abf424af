"""Label files of published archives, and the field's pickles of few-shot picks."""

from __future__ import annotations

import io
import json
import pickle
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import strategies as st
from scipy.io import savemat

from cliptune.data import load_data
from cliptune.data.fewshot_files import import_few_shot_pickle
from cliptune.data.items import SPLITS
from cliptune.data.published.annotations import mat_fields, mat_numbers, mat_texts, text_lines
from cliptune.data.published.facts import published
from tests.data.published import miniatures
from tests.fuzz.campaign import REFUSED, UNKNOWN, campaign
from tests.fuzz.changes import changed_bytes, json_cases
from tests.fuzz.test_weights import programs

LABELS = {
    "oxford_flowers": ("imagelabels.mat", "cat_to_name.json"),
    "stanford_cars": ("devkit/cars_meta.mat", "devkit/cars_train_annos.mat", "cars_test_annos_withlabels.mat"),
    "oxford_pets": ("annotations/trainval.txt", "annotations/test.txt"),
    "sun397": ("ClassName.txt", "Training_01.txt"),
    "ucf101": ("ucfTrainTestlist/classInd.txt", "ucfTrainTestlist/trainlist01.txt"),
    "fgvc_aircraft": ("variants.txt", "images_variant_train.txt"),
    "imagenet": ("classnames.txt",),
}


def mat(**variables: Any) -> list[bytes]:
    files = []
    for packed in (False, True):
        content = io.BytesIO()
        savemat(content, variables, do_compression=packed)
        files.append(content.getvalue())
    return files


def test_mat_files(tmp_path):
    rows = np.array([("a.jpg", 3), ("b.jpg", 1)], dtype=[("fname", object), ("class", object)])
    seeds = mat(labels=np.array([[1, 2, 3]], np.uint8), annotations=rows, names=np.array(["a", "é"], object))

    def read(case: bytes) -> Any:
        (tmp_path / "x.mat").write_bytes(case)
        path, who = tmp_path / "x.mat", "Data set x"
        fields = mat_fields(path, "annotations", ("fname", "class"), who)
        return mat_numbers(path, "labels", who), mat_texts(path, "names", who), fields

    def plain(case: bytes) -> Any:
        return ([1, 2, 3], ["a", "é"], [("a.jpg", 3), ("b.jpg", 1)]) if case in seeds else UNKNOWN

    campaign(".mat files", changed_bytes(seeds) | st.sampled_from(seeds), read, tmp_path, plain=plain)


@pytest.mark.parametrize("name", LABELS)
def test_label_files(tmp_path, name):
    getattr(miniatures, name)(tmp_path)
    known = published()[name]
    folder = next(path for path in tmp_path.iterdir() if path.is_dir())
    if known.split_file and (folder / known.split_file).is_file():
        (folder / known.split_file).unlink()
    files = {file: (folder / file).read_bytes() for file in LABELS[name]}
    options = {"make_split": True} if known.layout == "split" else {}

    def cases_of(file: str) -> Any:
        changed = json_cases([json.loads(files[file])]) if file.endswith(".json") else changed_bytes([files[file]])
        return st.tuples(st.just(file), changed | st.just(files[file]))

    def read(case: tuple[str, bytes]) -> Any:
        for file, content in {**files, case[0]: case[1]}.items():
            (folder / file).write_bytes(content)
        data = load_data(name, root=tmp_path, **options)
        assert all(0 <= item.label < len(data.class_names) for split in SPLITS for item in data[split].items)
        return len(data.class_names)

    campaign(f"labels of {name}", st.one_of([cases_of(file) for file in files]), read, tmp_path)


def test_lines_of_text(tmp_path):
    def read(case: bytes) -> Any:
        (tmp_path / "x.txt").write_bytes(case)
        return text_lines(tmp_path / "x.txt", "Data set x")

    def plain(case: bytes) -> Any:
        try:
            text = io.TextIOWrapper(io.BytesIO(case.decode("utf-8-sig").encode()), encoding="utf-8")
        except UnicodeDecodeError:
            return REFUSED
        return [line.strip() for line in text if line.strip()]

    seeds = [b"a b\r\n\n c \n", "\ufeffé\x85b\u2028c\rd".encode()]
    campaign("lines of text", changed_bytes(seeds) | st.binary(max_size=30), read, tmp_path, plain=plain)


class Datum:
    """What the field's pickles hold; it must be found under their name to be pickled."""

    def __init__(self, path: Any, label: Any) -> None:
        self._impath, self._label = path, label


def test_pickles_of_picks(tmp_path, monkeypatch):
    from cliptune.data.own.folders import read_folder
    from tests.data.pictures import write_classes

    write_classes(tmp_path / "images", {"a": 4, "b": 4})
    data = read_folder(tmp_path / "images")
    module = types.ModuleType("datasets")
    module.utils = types.ModuleType("datasets.utils")
    module.utils.Datum = Datum
    monkeypatch.setattr(Datum, "__module__", "datasets.utils")
    monkeypatch.setitem(sys.modules, "datasets", module)
    monkeypatch.setitem(sys.modules, "datasets.utils", module.utils)
    picks = {s: [Datum(f"/x/images/{item.path}", item.label) for item in data[s].items[:3]] for s in ("train", "val")}
    marker: Path = tmp_path / "marker"
    whole = [pickle.dumps(picks, protocol) for protocol in range(6)]
    harmful = [pickle.dumps({"train": [one]}, n) for one in programs(marker) for n in (0, 2, 4)]
    odd = [
        pickle.dumps(value) for value in ([], {"train": 3}, {"train": [Datum(3, "x")]}, {3: []}, {"train": [], "x": 1})
    ]
    harmful_cases = st.sampled_from(harmful) | changed_bytes(harmful)
    cases = st.one_of(changed_bytes(whole), harmful_cases, st.sampled_from([*odd, *whole]))

    def read(case: bytes) -> Any:
        (tmp_path / "shot_3-seed_1.pkl").write_bytes(case)
        try:
            return import_few_shot_pickle(tmp_path / "shot_3-seed_1.pkl", data, shots=3, seed=1)["train"]
        finally:
            assert not marker.exists()

    campaign("pickles of picks", cases, read, tmp_path)
