"""Lists of pictures and of sentences: CSV, JSON lines, split files, few-shot records, descriptions."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from cliptune.cli.shared.inputs import listed_names
from cliptune.data import from_images
from cliptune.data.fewshot_files import few_shot_record, read_few_shot
from cliptune.data.items import SPLITS
from cliptune.data.own.lists import read_list
from cliptune.data.own.split_files import make_split, read_split
from cliptune.texts.descriptions import read_descriptions
from tests.data.pictures import noise, write_classes
from tests.fuzz.campaign import REFUSED, UNKNOWN, campaign
from tests.fuzz.changes import changed_bytes, json_cases, to_json

ROWS = [("a/p00.png", "red_fox", "train"), ("a/p01.png", "Puma", "train"), ("b/p00.png", "puma x", "test")]
ROWS += [("b/p01.png", "puma x", "train")]


def pictures(tmp_path: Path) -> Path:
    write_classes(tmp_path, {"a": 2, "b": 2})
    return tmp_path


def is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def is_odd_name(path: str) -> bool:
    """Whether a path may be found though there is no file of it: by its end, or without its suffix."""
    return "\\" in path or re.search(r"p0[01]", path.rsplit("/", 1)[-1]) is not None


def found(data: Any) -> list[tuple[str, str, str]]:
    return [(split, item.path, item.class_name) for split in SPLITS for item in data[split].items]


def test_csv_lists(tmp_path):
    root = pictures(tmp_path)
    seeds = [
        "image,label,split\n" + "".join(f"{p},{c},{s}\n" for p, c, s in ROWS),
        "\ufeffpath,class\r\n" + "".join(f'"{p}",{c}\r\n' for p, c, _ in ROWS),
        'split,class,path\nval,"fox, red",a/p01.png\ntrain,"fox, red",a/p00.png\n',
    ]

    def read(case: bytes) -> Any:
        (root / "list.csv").write_bytes(case)
        return sorted(found(read_list(root / "list.csv")))

    def plain(case: bytes) -> Any:
        """Every row of a list with splits, by the csv module and plain rules; other lists are not known."""
        try:
            rows = list(csv.DictReader(io.StringIO(case.decode("utf-8-sig"), newline=""), strict=True))
        except (UnicodeDecodeError, csv.Error):
            return REFUSED
        if not rows or b"\0" in case:
            return REFUSED
        if any(set(row) != {"image", "label", "split"} or None in row.values() for row in rows):
            return UNKNOWN
        if any(not is_file(root / row["image"].strip()) for row in rows):
            return UNKNOWN if any(is_odd_name(row["image"]) for row in rows) else REFUSED
        return UNKNOWN if len({row["image"].strip() for row in rows}) < len(rows) else _listed(rows)

    campaign("CSV lists", changed_bytes([s.encode() for s in seeds]), read, tmp_path, plain=plain)


def _listed(rows: list[dict[str, str]]) -> Any:
    names = {row["label"].strip() for row in rows}
    spoken = {" ".join(name.replace("_", " ").split()).casefold() for name in names}
    trained = {row["label"].strip() for row in rows if row["split"].strip().lower() in ("train", "training")}
    if "" in spoken or len(spoken) < len(names) or trained != names:
        return REFUSED
    known = {"train": "train", "test": "test", "val": "val"}
    if any(row["split"].strip() not in known for row in rows):
        return UNKNOWN
    if any(".." in row["image"] or not re.fullmatch(r"[ab]/p\d\d\.png", row["image"].strip()) for row in rows):
        return UNKNOWN
    called = [
        (row["split"].strip(), row["image"].strip(), " ".join(row["label"].replace("_", " ").split())) for row in rows
    ]
    return sorted(called)


def test_json_lines(tmp_path):
    root = pictures(tmp_path)
    lines = [[{"image": p, "class": c, "split": s} for p, c, s in ROWS], [{"path": p, "label": c} for p, c, _ in ROWS]]
    cases = st.lists(json_cases([line for listed in lines for line in listed]), min_size=1, max_size=4).map(b"\n".join)
    whole = [b"\n".join(to_json(line) for line in listed) for listed in lines]

    def read(case: bytes) -> Any:
        (root / "list.jsonl").write_bytes(case)
        return sorted(found(read_list(root / "list.jsonl")))

    def plain(case: bytes) -> Any:
        try:
            parsed = [json.loads(line) for line in case.decode("utf-8-sig").split("\n") if line.strip()]
        except (ValueError, RecursionError):
            return REFUSED
        if not parsed or any(not isinstance(row, dict) for row in parsed):
            return REFUSED
        if any(set(row) != {"image", "class", "split"} for row in parsed):
            return UNKNOWN
        if any(not isinstance(row["image"], str) or not isinstance(row["class"], str) for row in parsed):
            return UNKNOWN if any(type(row["class"]) is int for row in parsed) else REFUSED
        if any(not isinstance(row["split"], str) for row in parsed):
            return REFUSED
        rows = [{"image": row["image"], "label": row["class"], "split": row["split"]} for row in parsed]
        if any(not is_file(root / row["image"].strip()) for row in rows):
            return UNKNOWN if any(is_odd_name(row["image"]) for row in rows) else REFUSED
        return UNKNOWN if len({row["image"].strip() for row in rows}) < len(rows) else _listed(rows)

    campaign("JSON-lines lists", st.one_of(cases, changed_bytes(whole)), read, tmp_path, plain=plain)


def test_split_files(tmp_path):
    root = pictures(tmp_path)
    seed = {
        "train": [["a/p00.png", 0, "red_fox"], ["b/p00.png", 1, "puma"]],
        "val": [],
        "test": [["a/p01.png", 0, "red fox"], ["b/p01.png", 1, "puma"]],
    }

    def read(case: bytes) -> Any:
        (root / "split_x.json").write_bytes(case)
        data = read_split(root / "split_x.json")
        return [(split, item.path, item.label, item.class_name) for split in SPLITS for item in data[split].items]

    def plain(case: bytes) -> Any:
        try:
            content = json.loads(case.decode("utf-8-sig"))
            assert all(isinstance(content[split], list) for split in SPLITS)
            listed = [(split, *entry) for split in SPLITS for entry in content[split]]
            for _, path, label, name in listed:
                assert isinstance(path, str)
                assert isinstance(name, str)
                assert type(label) is int
        except (ValueError, TypeError, KeyError, AssertionError, RecursionError):
            return REFUSED
        if any(not re.fullmatch(r"[ab]/p0[01]\.png", path) for _, path, _, _ in listed):
            return UNKNOWN
        called = [(split, path, label, " ".join(name.replace("_", " ").split())) for split, path, label, name in listed]
        names = {(label, name) for _, _, label, name in called}
        whole = sorted(label for label, _ in names) == list(range(len(names))) and names
        return called if whole and all(name for _, name in names) else REFUSED

    campaign("split files", json_cases([seed]), read, tmp_path, plain=plain)


def test_few_shot_records(tmp_path):
    images = [noise(i) for i in range(8)]
    data = from_images(images, [0, 0, 0, 0, 1, 1, 1, 1], ("a", "b"), val=(images[:4], [0, 0, 1, 1]))
    record = few_shot_record(data, 2, 1)
    imported = {**record, "rng": "imported"}

    def read(case: bytes) -> Any:
        (tmp_path / "picks.json").write_bytes(case)
        return found(read_few_shot(tmp_path / "picks.json", data))

    campaign(
        "few-shot records", json_cases([record, imported, few_shot_record(data, 9, 3, repeat=True)]), read, tmp_path
    )


def test_split_files_that_are_written_are_read_again(tmp_path):
    root = pictures(tmp_path)
    (root / "list.csv").write_text("image,label,split\n" + "".join(f"{p},{c},{s}\n" for p, c, s in ROWS))
    data = read_list(root / "list.csv")
    (root / "split_x.json").write_text(json.dumps(make_split(data)))
    assert found(read_split(root / "split_x.json")) == found(data)


def test_descriptions(tmp_path):
    seed = {"red_fox": ["A red fox has a bushy tail and black legs."], "puma": ["short", "A large tan cat, no spots."]}

    def read(case: bytes) -> Any:
        (tmp_path / "x_des.json").write_bytes(case)
        return read_descriptions(tmp_path / "x_des.json")

    def plain(case: bytes) -> Any:
        try:
            content = json.loads(case.decode("utf-8-sig"))
            json.dumps(content, ensure_ascii=False).encode()
        except (ValueError, RecursionError):
            return REFUSED
        if not isinstance(content, dict) or not content:
            return REFUSED
        for sentences in content.values():
            if not isinstance(sentences, list) or any(not isinstance(s, str) for s in sentences):
                return REFUSED
        return {"des": content} if all(name.strip() for name in content) else UNKNOWN

    campaign("descriptions", json_cases([seed]), read, tmp_path, plain=plain)


def test_class_names(tmp_path):
    seeds = [b"red panda\nyawl\n\nB. mark\n", "\ufeffred panda\r\nélan".encode()]

    def read(case: bytes) -> Any:
        (tmp_path / "names.txt").write_bytes(case)
        return listed_names(str(tmp_path / "names.txt"))

    def plain(case: bytes) -> Any:
        try:
            text = case.decode("utf-8-sig")
        except UnicodeDecodeError:
            return REFUSED
        names = [line.strip() for line in re.split(r"\r\n|\r|\n", text) if line.strip()]
        if len(set(names)) < len(names) or not names:
            return REFUSED
        return UNKNOWN if not all(name.isprintable() for name in names) else names

    campaign("class names", changed_bytes(seeds), read, tmp_path, plain=plain)
