"""`cliptune data doctor`, and the part of it that `fit` and `train` do themselves."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

FIT = ("--method", "zeroshot", "--out", "out")


@pytest.fixture
def doubled(photos: Path) -> Path:
    """The photographs in train and test; one of them in both, one of them in two classes."""
    layout = photos.parent / "layout"
    shutil.copytree(photos, layout / "train")
    (layout / "test").mkdir()
    for folder in sorted((layout / "train").iterdir()):
        (layout / "test" / folder.name).mkdir()
        for file in sorted(folder.iterdir())[:3]:
            file.rename(layout / "test" / folder.name / file.name)
    shutil.copy(layout / "train" / "snow" / "05.jpg", layout / "test" / "snow" / "again.jpg")
    shutil.copy(layout / "train" / "snow" / "06.png", layout / "train" / "red_fox" / "white.png")
    return layout


def test_the_doctor_tells_by_severity_with_counts_and_cases(cli, doubled):
    (doubled / "train" / "snow" / "read.me").write_text("mine")
    answer = cli("data", "doctor", doubled)
    assert answer.code == 0, answer.err
    assert "4 classes ('blue jay', 'green frog', 'red fox', 'snow'); 21 train, 0 val, 13 test" in answer.out
    assert answer.out.index("Errors:") < answer.out.index("leak (1):") < answer.out.index("Warnings:")
    assert "train: train/snow/05.jpg = test: test/snow/again.jpg" in answer.out
    assert "conflict (1)" in answer.out
    assert "unread (1): Files of the kind .me in class folders are not read." in answer.out
    assert "Labels: a classifier on the features of mini" in answer.out


def test_the_doctor_speaks_json_and_shows_as_many_cases_as_asked(cli, doubled):
    found = json.loads(cli("data", "doctor", doubled, "--no-labels", "--json").out)
    assert {finding["kind"] for finding in found["findings"]} >= {"leak", "conflict"}
    assert found["healthy"] is False
    assert found["images"] == {"train": 21, "val": 0, "test": 13}
    none = cli("data", "doctor", doubled, "--no-labels", "--examples", 0)
    assert "again.jpg" not in none.out
    assert "and 1 more" in none.out


@pytest.mark.parametrize("json_", [(), ("--json",)])
def test_strict_answers_by_the_exit_code(cli, photos, doubled, json_):
    words = ("--no-labels", "--near", 0, "--strict", *json_)
    assert cli("data", "doctor", doubled, *words).code == 1
    assert cli("data", "doctor", photos, *words).code == 0


def test_the_doctor_reads_what_fit_reads(cli, photos, tmp_path):
    rows = [f"{path.relative_to(photos).as_posix()},{path.parent.name}" for path in sorted(photos.glob("*/*"))]
    (photos / "list.csv").write_text("\n".join(["image,class", *rows, f"{rows[0].split(',')[0]}/../nothing.png,snow"]))
    refused = cli("data", "doctor", photos / "list.csv")
    assert refused.code == 2
    (tmp_path / "list.csv").write_text("\n".join(["image,class", *rows]))
    assert cli("data", "doctor", tmp_path / "list.csv", "--root", photos, "--no-labels").code == 0
    assert cli("data", "doctor", "tinyworld/symbols", "--near", 99).code == 2


@pytest.mark.parametrize("command", ["fit", "train"])
def test_training_says_what_is_doubled_and_notes_it(cli, doubled, backbone, command):
    words = ("fit", doubled) if command == "fit" else ("train", "--data", doubled, "--shots", 0)
    answer = cli(*words, *FIT, "--backbone", backbone)
    assert answer.code == 0, answer.err
    notes = json.loads(Path("out/result.json").read_text())["notes"]
    for sentence in ("in more than one of train, val and test", "are in several classes"):
        assert answer.out.count(sentence) == 1
        assert sum(sentence in note for note in notes) == 1
    again = cli(*words, *FIT, "--backbone", backbone)
    assert "This run was finished before" in again.out


@pytest.mark.parametrize("command", ["fit", "train"])
def test_strict_refuses_what_is_doubled_not_read_or_too_few(cli, photos, doubled, backbone, command):
    def train(folder, *more):
        words = ("fit", folder) if command == "fit" else ("train", "--data", folder)
        return cli(*words, *FIT, "--backbone", backbone, "--strict", *more)

    refused = train(doubled, *(("--shots", 0) if command == "train" else ()))
    assert refused.code == 2
    assert "in more than one of train, val and test" in refused.err
    assert "without --strict it is noted" in refused.err
    few = train(photos, "--shots", 5)
    assert few.code == 2
    assert "4 of 4 classes have fewer than 5 training images" in few.err
    (photos / "snow" / "film.mov").write_bytes(b"\0\0\0\x14ftypqt  \0\0\0\0qt  ")
    unread = train(photos, "--shots", 4)
    assert unread.code == 2
    assert "Files of the kind film in class folders are not read. 1 case: snow/film.mov." in unread.err
    (photos / "snow" / "film.mov").unlink()
    assert not Path("out").exists()
    assert train(photos, "--shots", 4).code == 0


@pytest.fixture
def nested(photos: Path) -> Path:
    """The photographs in two levels of folders."""
    for above, names in {"animals": ("red_fox", "blue jay"), "weather": ("snow",), "more": ("green frog",)}.items():
        (photos / above).mkdir()
        for name in names:
            (photos / name).rename(photos / above / name)
    return photos


@pytest.mark.parametrize("command", ["fit", "train"])
def test_what_is_done_with_folders_in_folders_is_said_and_can_be_chosen(cli, nested, backbone, command):
    words = ("fit", nested) if command == "fit" else ("train", "--data", nested, "--shots", 4)
    upper = cli(*words, "--method", "zeroshot", "--out", "upper", "--backbone", backbone)
    assert "3 classes ('animals', 'more', 'weather')" in upper.out
    assert upper.out.count("say --nested leaf") == 1
    assert sum("--nested leaf" in note for note in json.loads(Path("upper/result.json").read_text())["notes"]) == 1
    lower = cli(*words, "--method", "zeroshot", "--out", "lower", "--backbone", backbone, "--nested", "leaf")
    assert "4 classes ('blue jay', 'green frog', 'red fox', 'snow')" in lower.out
    assert "say --nested" not in lower.out
    assert "nested: leaf" in Path("lower/config.yaml").read_text()
    assert json.loads(Path("lower/result.json").read_text())["source"]["nested"] == "leaf"
    assert cli("eval", "lower").code == 0
    there = cli("eval", "lower", "--data", nested, "--nested", "leaf", "--json")
    assert json.loads(there.out)["accuracy"] == pytest.approx(
        json.loads(cli("eval", "lower", "--json").out)["accuracy"]
    )
    refused = cli("eval", "lower", "--nested", "top")
    assert refused.code == 2
    assert "--nested top is for another data set" in refused.err


def test_data_commands_read_folders_in_folders_as_asked(cli, nested):
    assert "4 classes" in cli("data", "doctor", nested, "--no-labels", "--nested", "leaf").out
    cli("data", "split", nested, "--nested", "leaf", "--out", "split.json")
    listed = json.loads(Path("split.json").read_text())
    assert {name for entries in listed.values() for _, _, name in entries} == {
        "red fox",
        "blue jay",
        "snow",
        "green frog",
    }


@pytest.mark.parametrize("command", ["fit", "train"])
def test_one_class_alone_is_refused(cli, photos, backbone, command):
    for name in ("snow", "red_fox", "blue jay"):
        shutil.rmtree(photos / name)
    words = ("fit", photos) if command == "fit" else ("train", "--data", photos)
    answer = cli(*words, *FIT, "--backbone", backbone)
    assert answer.code == 2
    assert "photos has one class, 'green frog', and any answer to one class is right" in answer.err
    assert "say --nested leaf" in answer.err
    assert "one_class (1)" in cli("data", "doctor", photos, "--no-labels").out


@pytest.mark.parametrize("command", ["fit", "train"])
def test_fewer_images_than_asked_are_spoken_of(cli, photos, backbone, command):
    words = ("fit", photos) if command == "fit" else ("train", "--data", photos)
    answer = cli(*words, *FIT, "--backbone", backbone, "--shots", 16)
    assert answer.code == 0
    assert "4 of 4 classes have fewer than 16 training images: 'blue jay' (4), 'green frog' (4)" in answer.out
    assert any("fewer than 16" in note for note in json.loads(Path("out/result.json").read_text())["notes"])


def test_while_the_method_is_chosen_the_same_is_said_and_refused(cli, doubled, photos, backbone):
    how = ("--out", "out", "--backbone", backbone, "--time", "5s")
    answer = cli("fit", doubled, *how)
    assert answer.code == 0, answer.err
    notes = json.loads(Path("out/result.json").read_text())["notes"]
    for sentence in ("in more than one of train, val and test", "are in several classes"):
        assert answer.out.count(sentence) == 1
        assert sum(sentence in note for note in notes) == 1
    assert cli("fit", doubled, *how, "--overwrite", "--strict").code == 2
    for name in ("snow", "red_fox", "blue jay"):
        shutil.rmtree(photos / name)
    alone = cli("fit", photos, *how[2:], "--out", "alone")
    assert alone.code == 2
    assert "any answer to one class is right" in alone.err
    assert "was left out" not in alone.out
