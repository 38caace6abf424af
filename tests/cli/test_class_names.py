"""Class names that are too long for the text tower, and sentences about classes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.data.pictures import noise

FIT = ("--out", "out", "--epochs", 2)
LONG = "very " * 80 + "white snow"


@pytest.fixture
def listed(photos: Path) -> Path:
    """A list that calls one class by a name of 90 tokens."""
    rows = [
        f"{path.relative_to(photos).as_posix()},{LONG if path.parent.name == 'snow' else path.parent.name}"
        for path in sorted(photos.glob("*/*"))
    ]
    (photos / "list.csv").write_text("\n".join(["image,class", *rows]))
    return photos / "list.csv"


@pytest.mark.parametrize("command", ["fit", "train"])
@pytest.mark.parametrize("method", ["coop", "zeroshot", "linear_probe", "kgcoop"])
def test_a_name_that_is_too_long_is_refused_or_cut(cli, listed, backbone, command, method):
    words = ("fit", listed) if command == "fit" else ("train", "--data", listed, "--shots", 2)
    how = (*FIT[: 4 if method in ("coop", "kgcoop") else 2], "--method", method, "--backbone", backbone)
    refused = cli(*words, *how)
    assert refused.code == 2
    assert "The class name 'very very" in refused.err
    assert "--truncate" in refused.err
    cut = cli(*words, *how, "--truncate", "--overwrite")
    assert cut.code == 0, cut.err
    sentence = "1 of 4 have more tokens than the text tower reads (77)"
    assert any(sentence in note for note in json.loads(Path("out/result.json").read_text())["notes"])
    assert cli("eval", "out").code == 0
    assert cli("predict", "out", listed.parent / "snow" / "00.png").code == 0


def test_predict_refuses_or_cuts_other_names(cli, photos, backbone):
    assert cli("fit", photos, *FIT, "--method", "coop", "--backbone", backbone).code == 0
    words = ("predict", "out", photos / "snow" / "00.png", "--classes", f"lynx,{LONG}")
    refused = cli(*words)
    assert refused.code == 2
    assert "The class name 'very very" in refused.err
    assert "--truncate" in refused.err
    cut = cli(*words, "--truncate")
    assert cut.code == 0
    assert "1 of 2 have more tokens than the text tower reads (77)" in cut.err
    assert LONG in cut.out


def test_eval_refuses_or_cuts_the_names_of_other_data(cli, photos, listed, backbone):
    assert cli("fit", photos, *FIT, "--method", "coop", "--backbone", backbone).code == 0
    words = ("eval", "out", "--data", listed)
    assert "--truncate" in cli(*words).err
    cut = cli(*words, "--truncate")
    assert cut.code == 0, cut.err
    assert "1 of 4 have more tokens" in cut.out


def test_the_doctor_finds_it(cli, listed):
    assert "long_name (1)" in cli("data", "doctor", listed, "--no-labels").out


@pytest.mark.parametrize("command", ["fit", "train"])
@pytest.mark.parametrize("method", ["dvp_cse", "attrvr"])
def test_a_method_that_lives_on_descriptions_says_that_there_are_none(cli, photos, backbone, command, method):
    words = ("fit", photos) if command == "fit" else ("train", "--data", photos, "--shots", 2)
    answer = cli(*words, *FIT, "--method", method, "--backbone", backbone)
    assert answer.code == 0, answer.err
    result = json.loads(Path("out/result.json").read_text())
    sentence = "there are none, so hand-written templates stand in, which say only the name"
    assert (answer.out + answer.err).count(sentence) == 1
    assert sum(sentence in note and "--descriptions" in note for note in result["notes"]) == 1
    assert result["flags"]["descriptions"] == "templates"


@pytest.mark.parametrize("command", ["fit", "train"])
def test_descriptions_are_given_by_name(cli, photos, backbone, command):
    Path("told").mkdir()
    for cause in (1, 2):
        told = {
            name: [f"number {i} of cause {cause}, seen in a {name}" for i in range(4)]
            for name in ("red fox", "blue jay", "green frog", "snow")
        }
        Path(f"told/mine_cse_{cause}.json").write_text(json.dumps(told))
    words = ("fit", photos) if command == "fit" else ("train", "--data", photos, "--shots", 2)
    answer = cli(*words, *FIT, "--method", "dvp_cse", "--backbone", backbone, "--descriptions", "told")
    assert answer.code == 0, answer.err
    result = json.loads(Path("out/result.json").read_text())
    assert result["flags"]["descriptions"] == "given"
    assert not any("templates stand in" in note for note in result["notes"])
    noise(1, 40, 40).save("picture.png")
    assert cli("predict", "out", "picture.png").code == 0
    missing = cli(*words, *FIT, "--method", "dvp_cse", "--backbone", backbone, "--descriptions", "nowhere")
    assert missing.code == 2
    assert "there is no file or folder nowhere" in missing.err


def test_a_name_is_cut_while_the_method_is_chosen(cli, listed, backbone):
    how = ("--out", "out", "--backbone", backbone, "--time", "5s")
    answer = cli("fit", listed, *how, "--truncate")
    assert answer.code == 0, answer.err
    notes = json.loads(Path("out/result.json").read_text())["notes"]
    assert any("1 of 4 have more tokens than the text tower reads (77)" in note for note in notes)
