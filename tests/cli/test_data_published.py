from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.data.pictures import write_classes
from tests.data.published.miniatures import MINIATURES
from tests.data.published.torchvision_miniatures import TORCHVISION_MINIATURES


@pytest.fixture
def root(tmp_path):
    for name in ("oxford_pets", "dtd", "imagenet", "imagenet_a"):
        MINIATURES[name](tmp_path / "data")
    return tmp_path / "data"


def test_check_shows_what_is_there_and_what_the_counts_should_be(cli, root):
    answer = cli("data", "check", "pets", "--root", root)
    assert (answer.code, answer.err) == (0, "")
    for expected in ("found: 21 of 21 listed pictures", "decoded: 21 RGB", "2,944", "leonberger", "differs"):
        assert expected in answer.out
    checks = json.loads(cli("data", "check", "dtd", "--root", root, "--json").out)
    assert [(each["name"], each["usable"], each["as_published"]) for each in checks] == [("dtd", True, False)]


def test_check_of_a_group_goes_on_after_a_fault_and_fails_at_the_end(cli, root):
    (root / "imagenet-adversarial/imagenet-a/n01443537/art_0.jpg").write_bytes(b"")
    answer = cli("data", "check", "shifts4", "--root", root)
    assert answer.code == 2
    assert "Not complete: imagenetv2, imagenet_sketch, imagenet_a, imagenet_r." in answer.err
    assert "corrupt: Picture" in answer.out
    assert "is no published data set" in cli("data", "check", "mnist", "--root", root).err


def test_plan_says_what_goes_where(cli, root):
    answer = cli("data", "plan", "cars", "--root", root)
    assert "cars (3 parts to fetch)" in answer.out  # the label files are only for a split of one's own
    assert f"to   {root}/stanford_cars/split_zhou_StanfordCars.json" in answer.out
    assert "pets (complete)" in cli("data", "plan", "pets", "--root", root).out
    steps = json.loads(cli("data", "plan", "all11", "--json").out)
    assert len(steps) == 11
    assert all(step["present"] is None for step in steps["dtd"])


def test_a_split_of_ones_own_is_written_and_can_be_trained_on(cli, root, backbone):
    published = root / "oxford_pets/split_zhou_OxfordPets.json"
    theirs = json.loads(published.read_text())
    published.unlink()
    assert "expected the split file" in cli("data", "split", "pets", "--root", root).err
    answer = cli("data", "split", "pets", "--root", root, "--make-split", "--split-seed", 4)
    assert "not the field's split" in answer.out
    made = json.loads(Path("split_oxford_pets.json").read_text())
    assert sorted(made["test"]) == sorted([path, label, name.replace("_", " ")] for path, label, name in theirs["test"])
    assert not list(root.glob("**/split_oxford_pets.json"))
    command = next(line.split() for line in answer.out.splitlines() if "cliptune train" in line)
    words = ["--backbone", backbone, "--shots", 1, "--set", "epochs=1", "--out", "run"]
    trained = cli(*command[1:], *words)
    assert "a type of pet" in json.loads(Path("run/split.json").read_text())["template"]
    assert "the split is that of" in trained.out
    lines = cli("table", "run", "--format", "csv").out.splitlines()
    assert ",not the field's split," in lines[1]
    anew = cli(*command[1:-2], "--make-split", *words[:-1], "anew")
    assert (anew.code, "not the field's split" in anew.out) == (0, True)


def test_a_folder_of_the_same_name_beside_does_not_hide_the_data_set(cli, root, monkeypatch):
    monkeypatch.chdir(root)
    answer = cli("data", "split", "oxford_pets", "--root", root, "--out", root.parent / "split.json")
    assert "Data: oxford_pets, 3 classes ('abyssinian'," in answer.out
    assert "Data: dtd, 3 classes ('banded'," in cli("data", "split", "dtd", "--out", root.parent / "dtd.json").out


def test_groups_are_listed(cli):
    out = cli("data", "list").out
    assert "resisc45" in out
    assert "all11: the eleven data sets" in out


def test_torchvisions_folders_can_be_trained_on_scored_and_tabulated(cli, tmp_path, backbone):
    for name in ("dtd", "food101"):
        TORCHVISION_MINIATURES[name](tmp_path / "tv")
    given = ("--root", tmp_path / "tv", "--source", "torchvision")
    words = ("--method", "zeroshot", "--data", "dtd", "--backbone", backbone, "--shots", 1, "--out", "run")
    answer = cli("train", *words, *given)
    assert answer.code == 0, answer.err
    assert "not comparable with published ones" in answer.out
    result = json.loads(Path("run/result.json").read_text())
    assert (result["data"]["name"], result["source"]["source"]) == ("dtd-torchvision", "torchvision")
    assert any("not comparable with published ones" in note for note in result["notes"])
    chosen = json.loads(Path("run/split.json").read_text())["train"]
    assert [path for path, _, digest in chosen if digest] == [path for path, _, _ in chosen]
    assert json.loads(cli("eval", "run", "--json").out)["accuracy"] == result["evaluations"]["test"]["accuracy"]
    other = json.loads(cli("eval", "run", "--data", "food", *given, "--json").out)
    assert (other["data"], other["n"]) == ("food101-torchvision", 6)
    assert "--source torchvision is for another data set" in cli("eval", "run", "--source", "torchvision").err

    words = ("--methods", "zeroshot", "--data", "dtd", "--seeds", 1, "--backbone", backbone, "--out", "grid")
    answer = cli("bench", "cross", *words, "--targets", "food101", *given)
    assert answer.code == 0, answer.err
    assert "food101-torchvision" in answer.out
    assert next(Path("grid/few_shot").iterdir()).name.startswith("dtd-")  # beside, not in, the field's folder


@pytest.mark.parametrize("left", ["the split file", "an archive", "an empty folder"])
@pytest.mark.parametrize("command", ["train", "fit", "eval", "bench", "split", "doctor"])
def test_missing_pictures_are_said_as_by_data_check(cli, tmp_path, backbone, command, left):
    root = tmp_path / "data"
    MINIATURES["oxford_flowers"](root)
    folder = root / "oxford_flowers"
    shutil.rmtree(folder / "jpg")
    if left == "an empty folder":
        shutil.rmtree(folder)
        folder.mkdir()
    elif left == "an archive":
        (folder / "102flowers.tgz").write_bytes(b"as fetched")
    words = {
        "train": ("train", "--method", "zeroshot", "--data", "oxford_flowers", "--backbone", backbone),
        "fit": ("fit", "oxford_flowers", "--method", "zeroshot", "--backbone", backbone),
        "eval": ("eval", "out", "--data", "oxford_flowers"),
        "bench": ("bench", "few_shot", "--methods", "zeroshot", "--data", "oxford_flowers", "--backbone", backbone),
        "split": ("data", "split", "oxford_flowers"),
        "doctor": ("data", "doctor", "oxford_flowers", "--no-labels"),
    }[command]
    if command == "eval":
        small = ("--data", "tinyworld/symbols", "--method", "zeroshot", "--backbone", backbone, "--shots", 1)
        assert cli("train", *small, "--out", "out").code == 0
    check = cli("data", "check", "oxford_flowers", "--root", root)
    sentence = f"Data set oxford_flowers: expected the pictures in the folder {folder / 'jpg'}, found none there."
    assert f"missing: {sentence}" in check.out
    answer = cli(*words, "--root", root)
    assert answer.code != 0
    assert sentence in answer.err
    assert "cliptune data plan oxford_flowers" in answer.err


def test_a_folder_of_ones_own_that_is_called_like_a_data_set_is_read_still(cli, tmp_path):
    write_classes(tmp_path / "flowers", {"rose": 4, "iris": 4})
    answer = cli("data", "doctor", "flowers", "--root", tmp_path, "--no-labels")
    assert "2 classes ('iris', 'rose')" in answer.out
    assert "there is a folder of this name, so it was read" in answer.out
