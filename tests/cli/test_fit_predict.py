from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image

from cliptune.cli.main import main
from tests.cli.conftest import COLOURS
from tests.conftest import without_manifest

COOP = ("--method", "coop")
QUICK = ("--epochs", 2, "--method", "coop")


@pytest.fixture
def run(cli, photos: Path, backbone: Path) -> Path:
    answer = cli("fit", photos, *QUICK, "--out", "out", "--backbone", backbone)
    assert answer.code == 0, answer.err
    return Path("out")


def test_fit_learns_from_mixed_pictures_and_says_what_it_found_and_what_to_type(cli, photos, backbone):
    answer = cli("fit", photos, *QUICK, "--out", "out", "--backbone", backbone, "--shots", 3)
    assert answer.code == 0, answer.err
    assert "4 classes ('blue jay', 'green frog', 'red fox', 'snow'); 12 train, 8 val, 8 test images" in answer.out
    assert "split with seed 1 into 16 train, 8 val, 8 test" in answer.out
    assert "Test accuracy: " in answer.out
    assert "cliptune predict out " in answer.out
    written = {path.name for path in Path("out").iterdir()}
    assert {"config.yaml", "result.json", "split.json", "adapter_model.safetensors", "metrics.jsonl"} <= written
    result = json.loads(Path("out/result.json").read_text())
    assert result["learnables"] == 4 * 64
    assert result["evaluations"]["test"]["n"] == 8
    assert result["flags"]["selection"] == "last"


def test_fit_reads_train_and_test_folders_and_lists(cli, photos, backbone, tmp_path):
    layout = tmp_path / "layout"
    shutil.copytree(photos, layout / "train")
    shutil.copytree(photos, layout / "test")
    answer = cli("fit", layout, *QUICK, "--out", "a", "--backbone", backbone, "--val", 0.1)
    assert answer.code == 0, answer.err
    assert "32 train, 0 val, 32 test" in answer.out
    assert "--val, --test and --split-seed change nothing" in answer.err

    rows = [f"{path.relative_to(photos).as_posix()},{path.parent.name}" for path in sorted(photos.glob("*/*"))]
    (photos / "list.csv").write_text("\n".join(["image,class", *rows]))
    answer = cli("fit", photos / "list.csv", *QUICK, "--out", "b", "--backbone", backbone, "--val", 0, "--test", 0.25)
    assert answer.code == 0, answer.err
    assert "24 train, 0 val, 8 test" in answer.out


def test_a_finished_run_says_so_and_is_not_trained_again(cli, photos, backbone, run):
    weights = (run / "adapter_model.safetensors").read_bytes()
    again = cli("fit", photos, *QUICK, "--out", "out", "--backbone", backbone)
    assert again.code == 0
    assert "This run was finished before" in again.out
    assert "Test accuracy" in again.out
    assert (run / "adapter_model.safetensors").read_bytes() == weights
    other = cli("fit", photos, *QUICK, "--out", "out", "--backbone", backbone, "--set", "n_ctx=2")
    assert other.code == 2
    assert "options.n_ctx (4 there, 2 here)" in other.err
    anew = cli("fit", photos, *QUICK, "--out", "out", "--backbone", backbone, "--set", "n_ctx=2", "--overwrite")
    assert anew.code == 0, anew.err


def test_an_interrupted_run_is_resumed_by_the_same_command(cli, photos, backbone, run, monkeypatch):
    from cliptune.training import loop

    hooked = loop.Training._end_epoch

    def interrupt(self, *arguments):
        hooked(self, *arguments)
        if self.position.epochs_done == 2:
            raise KeyboardInterrupt

    command = ("fit", photos, "--method", "coop", "--epochs", 4, "--out", "again", "--backbone", backbone)
    with monkeypatch.context() as patch:
        patch.setattr(loop.Training, "_end_epoch", interrupt)
        stopped = cli(*command)
    assert stopped.code == 130
    assert stopped.err.strip().endswith("Stopped. The same command goes on where it stopped.")
    unfinished = cli("predict", "again", photos)
    assert unfinished.code == 2
    assert "the run is not finished" in unfinished.err
    resumed = cli(*command)
    assert resumed.code == 0, resumed.err
    assert "Resuming" in resumed.err
    whole = cli(*command[:-4], "--out", "whole", "--backbone", backbone)
    assert whole.code == 0
    assert Path("again/adapter_model.safetensors").read_bytes() == Path("whole/adapter_model.safetensors").read_bytes()


def test_predict_names_pictures_of_every_kind(cli, photos, run):
    answer = cli("predict", run, photos, "--top", 2)
    assert answer.code == 0, answer.err
    assert len(answer.out.splitlines()) == 32
    one = cli("predict", run, photos / "snow" / "rotated.jpg")
    named = [line.split("%")[1].strip() for line in one.out.splitlines()]
    assert sorted(named) == sorted(name.replace("_", " ") for name in COLOURS)


def test_predict_turns_a_picture_as_its_exif_tag_says(cli, photos, run, tmp_path):
    upright = Image.open(photos / "snow" / "00.png")
    upright.save(tmp_path / "upright.png")
    exif = Image.Exif()
    exif[274] = 6  # turn by 90 degrees clockwise to see it upright
    upright.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "turned.png", exif=exif)
    answer = cli("predict", run, tmp_path / "upright.png", tmp_path / "turned.png", "--json")
    first, second = json.loads(answer.out)
    assert first["predictions"] == second["predictions"]


def test_predict_speaks_of_other_classes(cli, photos, run, tmp_path):
    answer = cli("predict", run, photos / "snow" / "00.png", "--classes", "lynx, puma", "--json")
    (found,) = json.loads(answer.out)
    assert {entry["class"] for entry in found["predictions"]} == {"lynx", "puma"}
    assert sum(entry["probability"] for entry in found["predictions"]) == pytest.approx(1, abs=1e-5)
    (tmp_path / "names.txt").write_text("lynx\n\npuma\n")
    from_file = cli("predict", run, photos / "snow" / "00.png", "--classes", tmp_path / "names.txt", "--json")
    assert json.loads(from_file.out) == [found]


def test_predict_names_the_others_if_a_picture_is_broken(cli, photos, run, tmp_path):
    (tmp_path / "broken.jpg").write_bytes((photos / "snow" / "01.jpg").read_bytes()[:200])
    answer = cli("predict", run, tmp_path / "broken.jpg", photos / "snow" / "00.png")
    assert answer.code == 2
    assert "snow" in answer.out
    assert "broken.jpg" in answer.err
    assert "1 of 2 pictures could not be read" in answer.err


def test_a_run_opens_from_another_working_directory(cli, photos, backbone, run, tmp_path, monkeypatch):
    shutil.copy(backbone, "here.safetensors")
    assert (
        cli(
            "fit", photos, *QUICK, "--out", "relative", "--backbone", "here.safetensors", "--activation", "quick_gelu"
        ).code
        == 0
    )
    folder = Path("relative").resolve()
    monkeypatch.chdir(tmp_path)
    assert cli("predict", folder, photos / "snow" / "00.png").code == 0
    assert cli("eval", folder).code == 0


def test_a_moved_backbone_is_asked_for_and_can_be_given(cli, photos, backbone):
    shutil.copy(backbone, "moving.safetensors")
    assert (
        cli(
            "fit", photos, *QUICK, "--out", "out", "--backbone", "moving.safetensors", "--activation", "quick_gelu"
        ).code
        == 0
    )
    Path("moving.safetensors").rename("moved.safetensors")
    gone = cli("predict", "out", photos)
    assert gone.code == 2
    assert "moving.safetensors, which is not there any more" in gone.err
    assert cli("predict", "out", photos, "--backbone", "moved.safetensors").code == 0


def test_without_a_choice_the_backbone_is_the_toy_and_that_is_said(cli, photos, monkeypatch, tiny_clip):
    import cliptune.clip.weights.load

    asked = []
    monkeypatch.setattr(cliptune.clip.weights.load, "load_clip", lambda name: asked.append(name) or tiny_clip)
    answer = cli("fit", photos, "--method", "zeroshot", "--out", "out")
    assert answer.code == 0, answer.err
    assert asked == ["mini"]
    assert "mini is a toy CLIP" in answer.err
    assert "This method learns nothing" in answer.out


def test_settings_come_from_file_and_command_line(cli, photos, backbone):
    Path("settings.yaml").write_text("n_ctx: 2\nlr: 1e-3\nselect: val\nwords: ''\n")
    words = ("--config", "settings.yaml", "--set", "n_ctx=3", "--batch-size", 8)
    assert cli("fit", photos, *QUICK, "--out", "out", "--backbone", backbone, *words).code == 0
    config = json.loads(Path("out/adapter_config.json").read_text())["config"]
    assert (config["n_ctx"], config["lr"], config["words"], config["batch_size"]) == (3, 1e-3, "", 8)
    assert json.loads(Path("out/result.json").read_text())["flags"]["selection"] == "val"
    repeated = cli(
        "fit", photos, "--method", "coop", "--out", "out", "--backbone", backbone, "--config", "out/config.yaml"
    )
    assert "This run was finished before" in repeated.out, repeated.err


def test_python_opens_what_the_command_line_made(cli, photos, run):
    import cliptune

    adapter = cliptune.load("out")
    logits = adapter.logits([Image.open(photos / "snow" / "00.png")])
    (found,) = json.loads(cli("predict", run, photos / "snow" / "00.png", "--json").out)
    best = adapter.class_names[int(logits.argmax())]
    assert found["predictions"][0]["class"] == best
    assert found["predictions"][0]["probability"] == pytest.approx(float(logits.softmax(-1).max()), abs=1e-6)
    assert not any(p.grad is not None for p in adapter.parameters())
    assert torch.is_grad_enabled()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["nowhere"], "'nowhere': expected the name of a data set, a folder"),
        (["PHOTOS", "--method", "mapel"], "no method 'mapel'. Did you mean maple"),
        (["PHOTOS", *COOP, "--set", "nctx=4"], "no option 'nctx'. Did you mean n_ctx?"),
        (["PHOTOS", *COOP, "--set", "n_ctx=four"], "Option n_ctx: expected a whole number, got 'four'"),
        (["PHOTOS", *COOP, "--set", "position=up"], "Option position: expected one of end, middle, front, got 'up'"),
        (["PHOTOS", *COOP, "--set", "class_specific=maybe"], "expected true or false, got 'maybe'"),
        (["PHOTOS", *COOP, "--set", "n_ctx"], "expected name=value, got 'n_ctx'"),
        (["PHOTOS", *COOP, "--set", "lr=-1"], "lr must be above 0"),
        (["PHOTOS", *COOP, "--config", "nothing.yaml"], "expected a YAML file, found nothing"),
        (["PHOTOS", "--val", "0.7", "--test", "0.5"], "leave something to train on"),
        (["PHOTOS", "--device", "gpu"], "'gpu' cannot be used here"),
        (["PHOTOS", *COOP, "--select", "best"], "select must be one of last, val, oracle"),
        (["PHOTOS", "--precision", "fp8"], "precision must be one of"),
        (["PHOTOS", "--backbone", "ViT-B/61"], "Did you mean ViT-B/16"),
        (["PHOTOS", "--backbone", "ViT-B/16"], "offline mode is on"),
        (["PHOTOS", "--backbone", "PHOTOS/snow/00.png"], "cannot be loaded as a CLIP"),
        (["PHOTOS", "--methd", "coop"], "Did you mean"),
        ([], "requires an argument"),
        (["PHOTOS", "--method", "zeroshot", "--epochs", "3"], "zeroshot: there is no option 'epochs'"),
    ],
)
def test_bad_input_to_fit_is_one_sentence(cli, photos, backbone, words, sentence):
    given = [word.replace("PHOTOS", str(photos)) for word in words]
    if "--backbone" not in given:
        given += ["--backbone", str(backbone)]
    answer = cli("fit", *given)
    assert answer.code == 2
    last = answer.err.strip().splitlines()[-1]
    assert sentence in last
    assert "Traceback" not in answer.err
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["nowhere", "PHOTO"], "expected the folder of a finished run, but it is not there"),
        (["PHOTO", "PHOTO"], "but it is a file"),
        (["PHOTOS", "PHOTO"], "expected the folder of a finished run, found none"),
        (["RUN", "nothing.jpg"], "There is no picture nothing.jpg"),
        (["RUN", "EMPTY"], "holds no pictures"),
        (["RUN", "PHOTO", "--top", "0"], "--top must be at least 1"),
        (["RUN", "PHOTO", "--classes", " , "], "expected names separated by commas"),
        (["RUN", "PHOTO", "--classes", "lynx,lynx"], "'lynx' is given twice"),
        (["RUN"], "requires an argument"),
    ],
)
def test_bad_input_to_predict_is_one_sentence(cli, photos, run, tmp_path, words, sentence):
    (tmp_path / "empty").mkdir()
    places = {"RUN": run, "PHOTO": photos / "snow" / "00.png", "PHOTOS": photos, "EMPTY": tmp_path / "empty"}
    answer = cli("predict", *(str(places.get(word, word)) for word in words))
    assert answer.code == 2
    assert sentence in answer.err
    assert "Traceback" not in answer.err


def test_debug_shows_the_traceback(cli):
    assert "Traceback" in cli("predict", "nowhere", "x.jpg", "--debug").err


def test_a_damaged_run_says_so(cli, photos, run):
    (run / "adapter_model.safetensors").write_bytes(b"half")
    answer = cli("predict", run, photos / "snow" / "00.png")
    assert answer.code == 2
    assert "adapter_model.safetensors is not as the run wrote it" in answer.err
    without_manifest(run)
    assert "not a whole safetensors file" in cli("predict", run, photos / "snow" / "00.png").err


def test_a_truncated_training_picture_is_named(cli, photos, backbone):
    broken = photos / "snow" / "01.jpg"
    broken.write_bytes(broken.read_bytes()[:300])
    answer = cli("fit", photos, *QUICK, "--out", "out", "--backbone", backbone, "--val", 0, "--test", 0)
    assert answer.code == 2
    assert "01.jpg" in answer.err
    assert main(["predict", "out", str(photos)]) == 2
