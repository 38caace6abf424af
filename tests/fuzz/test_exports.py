"""Files of other tools: exports of annotations, tables of any separator, archives and arrays of pictures."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import strategies as st

from cliptune.data import load_data
from cliptune.data.items import SPLITS
from tests.data.own.formats import test_parquet, test_webdataset
from tests.data.own.formats.conftest import PICTURES, write_flat
from tests.data.own.formats.test_coco import coco
from tests.data.own.formats.test_cvat import BOX, cvat
from tests.data.own.formats.test_fiftyone import samples
from tests.data.own.formats.test_label_studio import flat_entries, tasks
from tests.data.own.formats.test_medmnist import arrays
from tests.data.own.formats.test_roboflow import one_hot
from tests.fuzz.campaign import MIB, REFUSED, UNKNOWN, campaign
from tests.fuzz.changes import changed_bytes, json_cases

FEW = ("lynx0.png", "lynx1.png", "puma0.png", "puma1.png")


def reader(file: Path) -> Callable[[bytes], Any]:
    """Write a case into the file, open it as the command line does, and decode a picture of each split."""

    def read(case: bytes) -> Any:
        file.write_bytes(case)
        data = load_data(file)
        for split in SPLITS:
            if len(data[split]):
                data[split].image(0)
        return {item.path: item.class_name for split in SPLITS for item in data[split].items}

    return read


def spoken(name: str) -> str:
    return " ".join(name.replace("_", " ").split())


def of_pictures(labels: dict[str, str]) -> Any:
    """What plain labels come down to; not known where pictures or names are unusual."""
    usual = all(path in PICTURES for path in labels) and all(re.fullmatch(r"[a-z_]+", n) for n in labels.values())
    if not labels:
        return REFUSED
    called = {spoken(name) for name in labels.values()}
    whole = usual and all(called) and len(called) == len(set(labels.values()))
    return {path: spoken(name) for path, name in labels.items()} if whole else UNKNOWN


def test_coco(tmp_path):
    write_flat(tmp_path)

    def plain(case: bytes) -> Any:
        try:
            content = json.loads(case.decode("utf-8-sig"))
            json.dumps(content, ensure_ascii=False).encode()
            names = {c["id"]: c["name"] for c in content["categories"]}
            files = {i["id"]: i["file_name"] for i in content["images"]}
            marked = [(files[a["image_id"]], names[a["category_id"]]) for a in content["annotations"]]
            listed = len(names) == len(content["categories"]) and len(files) == len(content["images"])
            plain_ids = all(type(i) is int for i in (*names, *files))
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            return UNKNOWN
        if not listed or not plain_ids or len(set(files.values())) < len(files):
            return UNKNOWN
        if any(not isinstance(text, str) for pair in marked for text in pair) or len(dict(marked)) < len(set(marked)):
            return REFUSED
        return of_pictures(dict(marked)) if all(isinstance(n, str) and n for n in names.values()) else UNKNOWN

    campaign("COCO", json_cases([coco(FEW)]), reader(tmp_path / "a.json"), tmp_path, plain=plain)


def test_fiftyone(tmp_path):
    write_flat(tmp_path)
    stems = {Path(name).stem: PICTURES[name] for name in FEW}
    labels = {"classes": None, "labels": stems}
    counted = {"classes": ["lynx", "puma"], "labels": {stem: int(name == "puma") for stem, name in stems.items()}}

    def plain(case: bytes) -> Any:
        try:
            content = json.loads(case.decode("utf-8-sig"))
            json.dumps(content, ensure_ascii=False).encode()
            assert content["classes"] is None
            assert all(isinstance(name, str) for name in content["labels"].values())
        except (ValueError, TypeError, KeyError, AttributeError, AssertionError, RecursionError):
            return UNKNOWN
        return of_pictures({f"{stem}.png": name for stem, name in content["labels"].items()})

    cases = json_cases([labels, counted, {"samples": [{**s, "filepath": s["filepath"][5:]} for s in samples()[:4]]}])
    campaign("FiftyOne", cases, reader(tmp_path / "a.json"), tmp_path, plain=plain)


@pytest.mark.parametrize("content", [tasks()[:4], flat_entries()[:4]], ids=["JSON", "JSON-MIN"])
def test_label_studio(tmp_path, content):
    write_flat(tmp_path)
    campaign("Label Studio", json_cases([content]), reader(tmp_path / "a.json"), tmp_path)


def test_cvat(tmp_path):
    write_flat(tmp_path)
    bomb = '<!DOCTYPE a [<!ENTITY x "' + "x" * 99 + '">]><annotations>' + "&x;" * 99 + "</annotations>"
    deep = "<annotations>" + "<a>" * 20_000 + "</a>" * 20_000 + "</annotations>"
    seeds = [text.encode() for text in (cvat(), cvat(BOX), cvat(subsets=("Train", "Test")))]
    cases = st.one_of(changed_bytes(seeds), st.sampled_from([bomb.encode(), deep.encode(), cvat().encode("utf-16")]))
    campaign("CVAT", cases, reader(tmp_path / "a.xml"), tmp_path)


def test_roboflow(tmp_path):
    write_flat(tmp_path)
    campaign("Roboflow", changed_bytes([one_hot().encode()]), reader(tmp_path / "_classes.csv"), tmp_path)


def test_tables_of_any_separator(tmp_path):
    write_flat(tmp_path)
    rows = list(PICTURES.items())
    seeds = ["\n".join(d.join(row) for row in rows[:6]).encode() for d in (",", ";", "\t", "|", " ")] + [
        ("id,breed\n" + "".join(f"{p[:-4]},{c}\n" for p, c in rows[:6])).encode(),
        (",file_name,label,area\n" + "".join(f"{i},/x/{p},{c},3\n" for i, (p, c) in enumerate(rows[:6]))).encode(),
    ]
    campaign("tables", changed_bytes(seeds), reader(tmp_path / "list"), tmp_path)


def test_shards(tmp_path):
    seeds = []
    for fields in (("cls",), ("txt", "json")):
        path = test_webdataset.shard(tmp_path / "a.tar", test_webdataset.members(FEW, fields))
        seeds.append(path.read_bytes())
    seeds.append(test_webdataset.shard(tmp_path / "a.tar", {"../x.png": b"", "x.cls": b"0"}).read_bytes())
    headers = st.builds(_with_header, st.sampled_from(seeds), st.integers(0, 2**30), st.binary(max_size=12))
    campaign("WebDataset", st.one_of(changed_bytes(seeds), headers), reader(tmp_path / "a.tar"), tmp_path)


def _with_header(seed: bytes, place: int, content: bytes) -> bytes:
    """Other bytes in the header of a member, with a checksum that fits again."""
    blocks = [at for at in range(0, len(seed), 512) if seed[at + 257 : at + 262] == b"ustar"]
    at = blocks[place % len(blocks)]
    header = bytearray(seed[at : at + 512])
    start = place // 7 % 500
    header[start : start + len(content)] = content
    header = header[:512]
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return seed[:at] + bytes(header) + seed[at + 512 :]


def test_arrays(tmp_path):
    seeds = []
    for save in (np.savez, np.savez_compressed):
        file = io.BytesIO()
        save(file, **{name: value[:4] for name, value in arrays().items()})
        seeds.append(file.getvalue())
    cases = st.one_of(changed_bytes(seeds), st.builds(_stored_header, st.sampled_from(_HEADERS)))
    campaign("MedMNIST", cases, reader(tmp_path / "a.npz"), tmp_path)


_HEADERS: Sequence[Any] = (
    {"descr": "|u1", "fortran_order": False, "shape": (1 << 40,)},
    {"descr": "|u1", "fortran_order": True, "shape": (-1, 28, 28)},
    {"descr": "|O", "fortran_order": False, "shape": (3,)},
    {"descr": "<M8[ns]", "fortran_order": False, "shape": (0, 1)},
    {"descr": [("a", "|u1")], "fortran_order": False, "shape": ()},
    {"descr": "|u1", "fortran_order": False, "shape": (4, 0, 0)},
    "a text",
)


def _stored_header(header: Any) -> bytes:
    import zipfile

    text = (repr(header) + " " * 20 + "\n").encode()
    array = b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name in ("train_images", "train_labels"):
            archive.writestr(f"{name}.npy", array)
    return file.getvalue()


def test_parquet_files(tmp_path):
    noted = test_parquet.features()
    seeds = [
        test_parquet.write(tmp_path / "a.parquet", list(FEW), noted=features).read_bytes() for features in (noted, None)
    ]
    campaign("parquet", changed_bytes(seeds), reader(tmp_path / "a.parquet"), tmp_path, memory=4096 * MIB)
