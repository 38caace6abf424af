from __future__ import annotations

import json
import pickle
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cliptune.data import load_data
from tests.data.own.formats.conftest import CLASSES, PICTURES, spoken
from tests.data.own.formats.test_webdataset import labels, png
from tests.data.pictures import noise

NAMES = list(PICTURES)


def features(**further: object) -> dict[str, object]:
    return {"image": {"_type": "Image"}, "label": {"names": list(CLASSES), "_type": "ClassLabel"}, **further}


def write(path: Path, names=NAMES, *, noted: dict | None = None, group: int = 5, **columns: list) -> Path:
    """As datasets 5.2.0 writes it: a struct of bytes and path, classes by number, their names in the metadata."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {
        "image": [{"bytes": png(NAMES.index(name)), "path": name} for name in names],
        "label": [CLASSES.index(PICTURES[name]) for name in names],
        **columns,
    }
    table = pa.table(content)
    if noted is not None:
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": noted}})})
    pq.write_table(table, path, row_group_size=group)
    return path


def test_pictures_and_class_names_lie_in_the_file(tmp_path):
    data = load_data(write(tmp_path / "a.parquet", noted=features()))
    assert data.class_names == ("lynx", "puma", "red fox")
    for split in ("train", "val", "test"):
        for i, item in enumerate(data[split].items):
            row = 5 * int(item.path.split("/")[1]) + int(item.path.split("/")[2])
            assert item.class_name == spoken()[NAMES[row]]
            assert data[split].image(i).tobytes() == noise(row).tobytes()
    again = pickle.loads(pickle.dumps(data.train))
    assert again.digest(0) == data.train.digest(0)


def test_files_of_splits_as_the_hub_has_them(tmp_path):
    for split, part in (("train", NAMES[::2]), ("validation", NAMES[1::4]), ("test", NAMES[3::4])):
        write(tmp_path / "data" / f"{split}-00000-of-00001.parquet", part, noted=features())
    data = load_data(tmp_path)
    assert [len(data[split]) for split in ("train", "val", "test")] == [6, 3, 3]


def test_paths_without_bytes_name_files(flat):
    """`Dataset.to_parquet` of a folder's pictures leaves the bytes out."""
    image = [{"bytes": None, "path": f"/elsewhere/pics/{name}"} for name in NAMES]
    assert labels(load_data(write(flat / "a.parquet", noted=features(), image=image))) == spoken()
    assert labels(load_data(write(flat / "b.parquet", image=NAMES, label=list(PICTURES.values())))) == spoken()


def test_columns_of_other_names_and_kinds(tmp_path):
    raw = [png(i) for i in range(len(NAMES))]
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"photo_file": raw, "category": list(PICTURES.values())}), path)
    assert load_data(path).class_names == ("lynx", "puma", "red fox")


def test_of_two_class_labels_one_must_be_said(tmp_path):
    coarse = {"coarse": {"names": ["cat", "dog"], "_type": "ClassLabel"}}
    column = [int(label == "red_fox") for label in PICTURES.values()]
    path = write(tmp_path / "a.parquet", noted=features(**coarse), coarse=column)
    with pytest.raises(ValueError, match=r"expected one column label, got 2 \(label, coarse\)"):
        load_data(path)
    assert load_data(path, columns={"label": "coarse"}).class_names == ("cat", "dog")
    with pytest.raises(ValueError, match="there is no column 'fine'"):
        load_data(path, columns="label=fine")


def test_rows_without_a_label_are_passed_over_and_said(tmp_path):
    column = [CLASSES.index(label) for label in PICTURES.values()]
    column[0], column[1] = -1, None
    data = load_data(write(tmp_path / "a.parquet", noted=features(), label=column))
    assert any("2 pictures were passed over, since they lack a class" in note for note in data.notes)
    column[0] = 7
    with pytest.raises(ValueError, match="row 0 of row group 0: expected a number from 0 to 2 as class, got '7'"):
        load_data(write(tmp_path / "a.parquet", noted=features(), label=column))


def test_broken_files_get_a_sentence(tmp_path):
    path = write(tmp_path / "a.parquet", noted=features())
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(ValueError, match=r"Parquet file .*a\.parquet: it cannot be read"):
        load_data(path)


def test_without_pyarrow_the_line_that_brings_it_is_named(tmp_path, monkeypatch):
    path = write(tmp_path / "a.parquet", noted=features())
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(ImportError, match=r"needs pyarrow: pip install 'cliptune\[parquet\]'"):
        load_data(path)
