"""What is skipped, replaced, cut or guessed is told once by the command, and stands in `result.json` under notes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.cli.conftest import picture
from tests.conftest import without_manifest

SHORT = ("--epochs", 1)


@pytest.fixture
def told(cli, backbone):
    """Run a command that makes the run in `out`; the notes of its result, each of them told once."""

    def run(*words: object, where: str = "out", clip: object = backbone) -> list[str]:
        answer = cli(*words, "--out", "out", *(("--backbone", clip) if clip else ()))
        assert answer.code == 0, answer.err
        notes = json.loads((Path(where) / "result.json").read_text())["notes"]
        assert len(set(notes)) == len(notes)
        for note in notes:
            assert (answer.out + answer.err).count(note) == 1, note
        return notes

    return run


def has(notes: list[str], *sentences: str) -> None:
    for sentence in sentences:
        assert sum(sentence in note for note in notes) == 1, (sentence, notes)


def test_folders_and_few_images(told, photos):
    (photos / "snow" / "read.me").write_text("mine")
    (photos / ".trash").mkdir()
    (photos / "list.txt").write_text("mine")
    shutil.copy(photos / "snow" / "00.png", photos / "snow" / ".00.png")
    has(
        told("fit", photos, "--method", "zeroshot", "--shots", 5),
        "1 file without a picture's suffix was passed over",
        "1 file beside the class folders was passed over",
        "1 picture was passed over, because of a dot before the name",
        "passed over: .trash",
        "class names are read in other words: 'red_fox' as 'red fox'",
        "were split with seed 1",
        "4 of 4 classes have fewer than 5 training images",
        "No device was named, so the run is on cpu",
        "the activation is that of its configuration file",
        "its configuration leaves out vision_cfg.head_width",
        "nothing says how images are normalised",
    )


def test_a_finished_run_tells_them_once_more(told, cli, photos, backbone):
    notes = told("fit", photos, "--method", "zeroshot")
    again = cli("fit", photos, "--method", "zeroshot", "--out", "out", "--backbone", backbone)
    for note in notes:
        assert (again.out + again.err).count(note) == 1, note
    assert json.loads(Path("out/result.json").read_text())["notes"] == notes


def test_results_without_notes_are_still_read(told, cli, photos, backbone):
    told("fit", photos, "--method", "zeroshot")
    result = json.loads((without_manifest(Path("out")) / "result.json").read_text())
    del result["notes"]
    Path("out/result.json").write_text(json.dumps(result))
    assert cli("fit", photos, "--method", "zeroshot", "--out", "out", "--backbone", backbone).code == 0
    assert cli("eval", "out").code == 0


def test_lists_with_numbers_blank_lines_and_nothing_to_test_on(told, photos):
    rows = [
        f"{path.relative_to(photos).as_posix()},{label},{'val' if i % 2 else 'train'}"
        for label, name in enumerate(("snow", "blue jay"))
        for i, path in enumerate(sorted((photos / name).iterdir()))
    ]
    (photos / "list.csv").write_text("\n".join(["image,class,split", *rows[:3], "", *rows[3:]]))
    has(
        told("fit", photos / "list.csv", "--method", "zeroshot"),
        "1 blank lines were passed over",
        "the classes are numbers",
        "few_shot: list has no test images of these classes, so the validation images were scored",
    )


def test_no_validation_images_to_choose_on_and_classes_that_are_never_predicted(told, photos):
    items = {name: sorted(path.name for path in (photos / name).iterdir()) for name in ("snow", "blue jay", "red_fox")}
    split: dict[str, list[object]] = {"train": [], "val": [], "test": []}
    for label, (name, files) in enumerate(items.items()):
        for i, file in enumerate(files):
            part = "test" if i % 2 or name == "red_fox" else "train"
            split[part].append([f"{name}/{file}", label, name.replace("_", " ")])
    (photos / "split.json").write_text(json.dumps(split))
    has(
        told("fit", photos / "split.json", "--method", "linear_probe"),
        "have no training images and cannot be learned: 'red fox'",
        "1 of 3 classes have no training images and are never predicted",
        "there are no validation images to choose on",
    )


def test_descriptions_that_are_missing_short_or_cut(told, photos):
    has(
        told("fit", photos, "--method", "attrvr", *SHORT, "--set", "m=4"),
        "hand-written templates stand in",
        "PixelFrame: inner was left out",
        "Image embeddings are computed anew",
    )
    shutil.rmtree("out")
    told_of = {
        name: ["short one", f"{name} is a thing that one may well see outdoors", "long " * 90, "a third true sentence"]
        for name in ("blue jay", "Green_Frog", "red fox", "snow")
    }
    Path("words").mkdir()
    for kind in ("colour", "shape"):
        Path(f"words/{kind}.json").write_text(json.dumps(told_of))
    has(
        told(
            *("fit", photos, "--method", "rvp", *SHORT, "--set", "descriptions=words", "--set", "min_length=12"),
        ),
        "des are not given and were made of colour, shape",
        "set 'des': 8 sentences have fewer than 12 characters",
        "set 'des': entries in another spelling were taken for 'green frog'",
        "m was left out and is 3",
        "have more than 77 tokens and are cut",
    )


def test_options_that_do_not_fit_and_images_that_fill_no_batch(told, photos):
    words = ("--method", "maple+dpc+dapt", *SHORT, "--shots", 3, "--set", "n_ctx=5", "--set", "batch_size=5")
    has(
        told("fit", photos, *words, "--set", "dpc_epochs=1", "--set", "dapt_source=gradcam"),
        "maple: 'a photo of a' has fewer words than the 5 learned tokens",
        "maple: depth was left out and is 2",
        "dpc: dpc_negatives was left out and is 4",
        "dapt: dapt_prompts was left out and is 'deep'",
        "maps between prompts stay those of the tuned prompt",
        "train: every epoch leaves out 2 of the 12 training images",
    )


def test_weights_in_a_training_checkpoint(told, photos, backbone, tmp_path):
    tensors = {f"module.{name}": value.half() for name, value in load_file(backbone).items()}
    tensors["module.attn_mask"] = torch.zeros(2)
    (tmp_path / "w").mkdir()
    torch.save({"state_dict": tensors, "epoch": torch.tensor(3)}, tmp_path / "w" / "mine.pt")
    shutil.copy(backbone.parent / "open_clip_config.json", tmp_path / "w")
    has(
        told("fit", photos, "--method", "zeroshot", clip=tmp_path / "w" / "mine.pt"),
        "of the checkpoint state_dict was read, and not epoch",
        "'module.' was dropped from the names",
        "1 tensors that are no weights were left out (attn_mask)",
        "weights stored as float16 are kept as float32",
    )


def test_new_classes_and_a_shared_host_in_a_grid(told, photos, cli):
    folder = "base2new"
    words = ("bench", "base2new", "--methods", "linear_probe,coop,coop+dpc", "--data", photos, "--seeds", 1)
    quick = ("--shots", 2, "--set", "coop:epochs=1", "--set", "dpc_epochs=1", "--set", "coop+dpc:epochs=1")
    answer = cli(*words, *quick, "--out", "out", "--backbone", "mini")
    assert answer.code == 0, answer.out + answer.err
    said = answer.out + answer.err
    results = [json.loads(path.read_text()) for path in Path("out", folder).rglob("result.json")]
    assert len(results) == 3
    for note in {note for result in results for note in result["notes"]}:
        assert said.count(note) == 1, note
    of = {result["method"]: result["notes"] for result in results}
    has(of["linear_probe"], "base2new: the new classes were not scored, because linear_probe holds values")
    has(of["coop+dpc"], "The first stage is that of the coop run in")


def test_what_a_released_checkpoint_holds_besides_learnables(told, photos):
    draw = torch.Generator().manual_seed(0)
    state = {"ctx": torch.randn(4, 64, generator=draw), "token_prefix": torch.zeros(3, 1, 64)}
    torch.save({"state_dict": state, "epoch": 5}, "model.pth.tar-5")
    has(
        told("convert", "model.pth.tar-5", "--from", "coop", "--classes", "snow,fox,jay"),
        "from_published: 1 tensors that are no learnables were left out (prompt_learner.token_prefix)",
    )


def test_eval_enters_what_it_met(told, cli, photos, tmp_path):
    told("fit", photos, "--method", "zeroshot")
    other = tmp_path / "other"
    for name in ("sea", "old_town"):
        (other / name).mkdir(parents=True)
        for i in range(4):
            picture((40, 90, 160), (40, 40), seed=i).save(other / name / f"{i}.png")
    answer = cli("eval", "out", "--data", other)
    assert answer.code == 0, answer.err
    notes = json.loads(Path("out/result.json").read_text())["notes"]
    entered = [note for note in notes if str(other) in note]
    has(entered, "'old_town' as 'old town'", "were split with seed 1")
    for note in entered:
        assert answer.out.count(note) == 1
