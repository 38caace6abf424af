from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from cliptune.data import load_data
from tests.data.own.formats.conftest import PICTURES, spoken


def upload(number: int, name: str) -> str:
    return f"/data/upload/7/{number:08x}-{name}"


def task(number: int, name: str, *choices: object, key: str = "annotations", cancelled: bool = False) -> dict:
    """A task with an annotation for each choice, as label-studio-sdk 2.1.2 takes and Label Studio 1.x exports it."""
    answers = [
        {
            **{"id": 10 * number + i, "completed_by": 1, "was_cancelled": cancelled, "lead_time": 2.5},
            "result": [
                {
                    **{"id": "r", "from_name": "choice", "to_name": "image", "type": "choices", "origin": "manual"},
                    "value": {"choices": choice if isinstance(choice, list) else [choice]},
                }
            ],
        }
        for i, choice in enumerate(choices)
    ]
    other = {"drafts": [], "meta": {}, "inner_id": number, "total_annotations": len(answers), "project": 7}
    return {"id": number, "data": {"image": upload(number, name)}, "annotations": [], key: answers, **other}


def tasks() -> list[dict]:
    return [task(i, name, choice) for i, (name, choice) in enumerate(PICTURES.items())]


def flat_entries() -> list[dict]:
    """JSON-MIN and the lines of CSV."""
    return [
        {
            **{"image": upload(i, name), "id": i, "choice": choice, "annotator": 1, "annotation_id": i},
            **{"created_at": "2026-11-29T07:00:00Z", "updated_at": "2026-11-29T07:00:00Z", "lead_time": 2.5},
        }
        for i, (name, choice) in enumerate(PICTURES.items())
    ]


def write(folder: Path, content: object, name: str = "project-7-at-2026-11-29-07-00-deadbeef.json") -> Path:
    (folder / name).write_text(json.dumps(content))
    return folder / name


@pytest.mark.parametrize("content", [tasks(), flat_entries()], ids=["JSON", "JSON-MIN"])
def test_json_exports_find_pictures_by_the_names_that_they_were_uploaded_by(flat, read, content):
    assert read(write(flat, content)) == spoken()
    assert read(flat) == spoken()
    assert read(write(flat.parent, content, "export.json"), flat) == spoken()


@pytest.mark.parametrize("delimiter", [",", "\t"])
def test_csv_exports(flat, read, delimiter):
    path = flat / "export.csv"
    with path.open("w", newline="") as file:
        rows = csv.DictWriter(file, list(flat_entries()[0]), quoting=csv.QUOTE_NONNUMERIC, delimiter=delimiter)
        rows.writeheader()
        rows.writerows(flat_entries())
    assert read(path) == spoken()


def test_pictures_that_still_have_the_digits_before_their_names_are_found(flat, read):
    for i, name in enumerate(PICTURES):
        (flat / name).rename(flat / f"{i:08x}-{name}")
    expected = {f"{i:08x}-{name}": choice.replace("_", " ") for i, (name, choice) in enumerate(PICTURES.items())}
    assert read(write(flat, tasks())) == expected


@pytest.mark.parametrize(
    "address",
    ["/data/local-files/?d=pets/pics/{}", "s3://bucket/pets/{}", "https://host/pics/{}?token=1", "gs://b/{}", "{}"],
)
def test_addresses_of_other_storages(flat, read, address):
    content = tasks()
    for entry, name in zip(content, PICTURES, strict=True):
        entry["data"]["image"] = address.format(name)
    assert read(write(flat, content)) == spoken()


def test_what_nobody_decided_is_passed_over_and_said(flat):
    content = tasks()
    names = list(PICTURES)
    content[0]["annotations"] = []
    content[1] = task(1, names[1], "lynx", cancelled=True)
    content[2] = task(2, names[2], "lynx", "puma")
    content[3] = task(3, names[3], "lynx", "lynx")
    data = load_data(write(flat, content))
    assert sum(len(data[split]) for split in ("train", "val", "test")) == len(names) - 3
    assert any("2 pictures were passed over, since nobody chose a class" in note for note in data.notes)
    assert any("1 picture was passed over, since annotators chose different classes" in note for note in data.notes)


def test_predictions_count_where_nobody_annotated(flat, read):
    content = [task(i, name, choice, key="predictions") for i, (name, choice) in enumerate(PICTURES.items())]
    path = write(flat, content)
    assert read(path) == spoken()
    assert any("nobody has annotated" in note for note in load_data(path).notes)


def test_two_fields_of_choices_need_a_word(flat, read):
    content = flat_entries()
    for entry in content:
        entry["sharp"] = "yes"
    path = write(flat, content)
    with pytest.raises(ValueError, match=r"expected one field of choices, got 2 \(choice, sharp\).*--columns label="):
        read(path)
    assert read(path, columns="label=choice") == spoken()


@pytest.mark.parametrize("several", [{"choices": ["lynx", "puma"]}, json.dumps({"choices": ["lynx", "puma"]})])
def test_several_choices_for_a_picture_are_refused(flat, several):
    content = flat_entries()
    content[3]["choice"] = several
    with pytest.raises(ValueError, match=r"entry 4: expected one choice for each picture, got 2 \(lynx, puma\)"):
        load_data(write(flat, content))


def test_boxes_are_no_choices(flat):
    content = tasks()
    for entry in content:
        entry["annotations"][0]["result"][0]["type"] = "rectanglelabels"
    with pytest.raises(ValueError, match="expected one field of choices, got 0"):
        load_data(write(flat, content))
