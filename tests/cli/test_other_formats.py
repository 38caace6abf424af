"""Lists and exports of other tools, from `fit` to predictions that are read again."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml

from cliptune.data import load_data
from cliptune.data.items import SPLITS


@pytest.fixture
def rows(photos: Path) -> list[tuple[str, str]]:
    return [(path.relative_to(photos).as_posix(), path.parent.name) for path in sorted(photos.glob("*/*"))]


def write(file: Path, rows: list[tuple[str, str]], header: str = "image;label", delimiter: str = ";") -> Path:
    file.write_text("\n".join([header, *(f"{path}{delimiter}{name}" for path, name in rows)]))
    return file


def test_fit_train_eval_and_check_take_columns_and_a_separator(cli, photos, rows, backbone):
    # Two columns of texts that neither names nor content tell apart.
    lines = [(path, f"{name};{path.split('/')[0][:1]}") for path, name in rows]
    file = write(photos / "list.txt", lines, "a;b;c")
    said = ("--columns", "image=a,label=b", "--delimiter", "semicolon")
    refused = cli("fit", file, "--method", "zeroshot", "--backbone", backbone, "--out", "out")
    assert refused.code == 2
    assert "expected one column class (or label), got 2 (b, c)" in refused.err
    fitted = cli("fit", file, *said, "--method", "zeroshot", "--backbone", backbone, "--out", "out")
    assert fitted.code == 0, fitted.err
    assert "16 train, 8 val, 8 test" in fitted.out
    kept = {"columns": {"image": "a", "label": "b"}, "delimiter": ";"}
    assert yaml.safe_load(Path("out/config.yaml").read_text())["data"]["read_with"] == kept
    source = json.loads(Path("out/result.json").read_text())["source"]
    assert {key: source[key] for key in kept} == kept
    assert cli("eval", "out").code == 0
    other = write(photos / "other.txt", lines, "a;b;c")
    assert cli("eval", "out", "--data", other, *said).code == 0
    assert "--columns is for another list" in cli("eval", "out", *said).err
    trained = cli(
        "train", "--data", file, *said, "--method", "zeroshot", "--backbone", backbone, "--shots", 2, "--out", "b"
    )
    assert trained.code == 0, trained.err
    for look in ("check", "doctor"):
        found = json.loads(cli("data", look, file, *said, "--json").out)
        assert found["images"] == {"train": 16, "val": 8, "test": 8}


def test_check_of_own_data_names_what_cannot_be_read(cli, photos, rows):
    (photos / rows[3][0]).write_bytes(b"no picture")
    answer = cli("data", "check", write(photos / "list.csv", rows))
    assert answer.code == 2
    assert "blue jay" in answer.out
    assert f"corrupt: Picture {photos / rows[3][0]} cannot be decoded" in answer.out
    assert "1 picture of list cannot be read" in answer.err
    assert cli("data", "check", photos / "list.csv", "--no-decode").code == 0
    assert "give the folder that holds the data sets" in cli("data", "check", "dtd").err


@pytest.mark.parametrize("command", [("check",), ("doctor", "--no-labels")])
def test_how_far_the_decoding_is_can_be_seen(cli, photos, command, monkeypatch):
    monkeypatch.setattr("cliptune.training.progress.Lines._due", lambda _: True)
    answer = cli("data", *command, photos)
    assert answer.code == 0, answer.err
    assert re.search(r"pictures: step 8 of \d+ \(\d+ %\), \d+ s left", answer.err)
    assert "left" not in cli("data", *command, photos, "--json").err


def test_columns_of_a_folder_are_refused(cli, photos):
    answer = cli("data", "check", photos, "--columns", "image=a")
    assert answer.code == 2
    assert "has no option 'columns'" in answer.err


@pytest.fixture
def run(cli, photos, backbone) -> Path:
    answer = cli("fit", photos, "--method", "zeroshot", "--backbone", backbone, "--out", "out")
    assert answer.code == 0, answer.err
    return Path("out")


@pytest.mark.parametrize("kind", ["csv", "jsonl", "labelstudio", "coco", "fiftyone"])
def test_predictions_are_written_and_read_again(cli, photos, run, kind):
    suffix = kind if kind in ("csv", "jsonl") else "json"
    file = photos / f"predictions.{suffix}"
    answer = cli("predict", run, photos, "--format", kind, "--out", file)
    assert answer.code == 0, answer.err
    assert f"32 predictions as {kind}" in answer.err
    assert answer.out == ""
    predicted = json.loads(cli("predict", run, photos, "--json").out)
    expected = {str(Path(p["image"]).relative_to(photos)): p["predictions"][0]["class"] for p in predicted}
    data = load_data(file, fractions=(1, 0, 0))
    assert {item.path: item.class_name for s in SPLITS for item in data[s].items} == expected
    again = cli("predict", run, photos, "--format", kind, "--out", file)
    assert again.code == 2
    assert "is there already" in again.err
    assert cli("predict", run, photos, "--format", kind, "--out", file, "--overwrite").code == 0


def test_predictions_apart_from_the_pictures_have_absolute_paths(cli, photos, run):
    assert cli("predict", run, photos, "--format", "csv", "--out", "away.csv").code == 0
    assert Path("away.csv").read_text().splitlines()[1].startswith(str(photos))
    assert load_data("away.csv").root == photos


def test_probabilities_stand_in_the_files(cli, photos, run):
    one = photos / "snow" / "00.png"
    (found,) = json.loads(cli("predict", run, one, "--json").out)
    probability = found["predictions"][0]["probability"]
    where = {
        "csv": lambda text: float(text.splitlines()[1].split(",")[2]),
        "jsonl": lambda text: json.loads(text)["probability"],
        "labelstudio": lambda text: json.loads(text)[0]["predictions"][0]["score"],
        "coco": lambda text: json.loads(text)["annotations"][0]["score"],
        "fiftyone": lambda text: json.loads(text)["labels"]["snow/00"]["confidence"],
    }
    for kind, read in where.items():
        assert cli("predict", run, one, "--format", kind, "--out", photos / f"p_{kind}").code == 0
        assert read((photos / f"p_{kind}").read_text()) == pytest.approx(probability, abs=1e-6)


def test_how_far_naming_is_can_be_seen_where_no_picture_is_told(cli, photos, run, monkeypatch):
    monkeypatch.setattr("cliptune.timing.SHOWN_EVERY", 0.0)
    monkeypatch.setattr("cliptune.cli.commands.predict._BATCH", 8)
    written = cli("predict", run, photos, "--format", "csv", "--out", "long.csv")
    assert re.search("Naming 32 pictures: 25 % done, .* left", written.err)
    assert "Naming" in cli("predict", run, photos, "--json").err
    assert "Naming" not in cli("predict", run, photos).err


@pytest.mark.parametrize("alone", [("--format", "csv"), ("--out", "x.csv")])
def test_format_and_file_belong_together(cli, photos, run, alone):
    assert "belong together" in cli("predict", run, photos, *alone).err


def test_pictures_of_one_name_are_refused_by_fiftyone(cli, photos, run):
    (photos / "snow" / "00.bmp").write_bytes((photos / "snow" / "00.png").read_bytes())
    answer = cli("predict", run, photos, "--format", "fiftyone", "--out", photos / "p.json")
    assert "two here differ in it alone" in answer.err
    assert not (photos / "p.json").exists()
