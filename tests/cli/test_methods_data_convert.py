from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from cliptune import load_clip
from cliptune.interop import to_published
from cliptune.registry import add_ons, build, compatibility

NAMES = ("lynx", "puma", "red fox")


def test_methods_lists_every_method_with_its_learnables(cli):
    answer = cli("methods", "--json")
    assert answer.code == 0, answer.err
    rows = {row["name"]: row for row in json.loads(answer.out)}
    assert rows["coop"]["learnables"] == 2048
    assert rows["maple"]["paper"] == "2210.03117"
    shown = cli("methods").out
    assert "3,555,072" in shown
    assert "513 per class" in shown


def test_methods_shows_the_options_of_one(cli):
    out = cli("methods", "coop").out
    assert "n_ctx" in out
    assert "learned tokens" in out
    assert "end | middle | front" in out
    assert "few_shot" in out
    unknown = cli("methods", "mapel")
    assert unknown.code == 2
    assert "Did you mean maple" in unknown.err


def test_methods_table_shows_what_the_constructors_accept(cli):
    answer = cli("methods", "--table", "--json")
    assert answer.code == 0, answer.err
    shown = [(cell["method"], cell["mark"], cell["note"]) for cell in json.loads(answer.out)]
    assert shown == [(cell.method, cell.mark, cell.note) for cell in compatibility() if cell.add_ons]


def test_methods_table_explains_its_cells_below(cli):
    lines = cli("methods", "--table").out.splitlines()
    header = next(line for line in lines if "+dapt" in line).split()
    assert header == ["method", *(f"+{name}" for name in add_ons())]
    row = next(line for line in lines if line.split()[:1] == ["maple"])
    assert "✓" in row.replace("(✓)", "")
    number = row.split("(✓)")[1].split()[0]
    note = next(line for line in lines if line.split()[:1] == [number])
    assert "biases of the image tower overlap" in note
    refused = next(line for line in lines if line.split()[:1] == ["zeroshot"])
    assert any(line.split()[:1] == [refused.split("✗")[1].split()[0]] and f"{add_ons()[0]}: " in line for line in lines)


def test_methods_table_has_columns_for_kinds_of_towers(cli):
    cells = {(c["method"], c["tower"]): c for c in json.loads(cli("methods", "--table", "--towers", "--json").out)}
    for tower in ("ViT", "SigLIP", "PE-Core", "EVA-02", "MobileCLIP2-B"):
        assert cells["vpt", tower]["mark"] == cells["coop", tower]["mark"] == "✓"
    for tower in ("ResNet", "ConvNeXt"):
        assert cells["coop", tower]["mark"] == "✓"
        assert "Use a ViT backbone" in cells["maple", tower]["note"]
    told = cli("methods", "vpt", "--table", "--towers").out
    assert "ConvNeXt of timm" in told
    answer = cli("methods", "--towers")
    assert "--towers chooses the columns of --table" in answer.err


def test_methods_table_of_one_name_is_its_row_or_column(cli):
    row = {cell["method"] for cell in json.loads(cli("methods", "coop", "--table", "--json").out)}
    assert row == {f"coop+{name}" for name in add_ons()}
    column = cli("methods", "dpc", "--table").out
    assert "+dpc" in column
    assert "+rlp" not in column
    assert cli("methods", "mapel", "--table").code == 2


def test_data_list_names_what_can_be_asked_for(cli):
    answer = cli("data", "list")
    assert answer.code == 0
    assert "tinyworld/objects" in answer.out


def test_data_split_writes_a_file_that_fit_reads(cli, photos, backbone):
    answer = cli("data", "split", photos, "--shots", 2, "--seed", 3)
    assert answer.code == 0, answer.err
    file = photos / "split_photos_2shots_seed3.json"
    assert {split: len(items) for split, items in json.loads(file.read_text()).items()} == {
        "train": 8,
        "val": 8,
        "test": 8,
    }
    assert f"cliptune fit {file}" in answer.out
    assert cli("data", "split", photos, "--shots", 2, "--seed", 3).code == 0
    fitted = cli("fit", file, "--method", "zeroshot", "--backbone", backbone, "--out", "out")
    assert fitted.code == 0, fitted.err
    assert "8 train, 8 val, 8 test" in fitted.out
    elsewhere = cli("data", "split", photos, "--out", "split.json")
    assert f"--root {photos}" in elsewhere.out
    again = cli("fit", "split.json", "--root", photos, "--method", "zeroshot", "--backbone", backbone, "--out", "b")
    assert again.code == 0, again.err
    taken = cli("data", "split", photos, "--split-seed", 9, "--out", "split.json")
    assert taken.code == 2
    assert "holds something else already" in taken.err


@pytest.fixture
def released() -> dict[str, torch.Tensor]:
    """A released MaPLe checkpoint for the toy CLIP: 2 tokens, both blocks."""
    draw = torch.Generator().manual_seed(0)
    text, image = 64, 128
    return {
        "prompt_learner.ctx": torch.randn(2, text, generator=draw),
        "prompt_learner.compound_prompts_text.0": torch.randn(2, text, generator=draw),
        "prompt_learner.proj.weight": torch.randn(image, text, generator=draw),
        "prompt_learner.proj.bias": torch.randn(image, generator=draw),
        "prompt_learner.compound_prompt_projections.0.weight": torch.randn(image, text, generator=draw),
        "prompt_learner.compound_prompt_projections.0.bias": torch.randn(image, generator=draw),
        "prompt_learner.token_prefix": torch.zeros(3, 1, text),
        "prompt_learner.token_suffix": torch.zeros(3, 74, text),
    }


def test_convert_goes_both_ways(cli, released, backbone, photos):
    torch.save({"state_dict": released, "epoch": 5}, "model.pth.tar-5")
    Path("names.txt").write_text("\n".join(NAMES))
    there = cli(
        "convert",
        "model.pth.tar-5",
        "--from",
        "maple",
        "--out",
        "run",
        "--backbone",
        backbone,
        "--classes",
        "names.txt",
    )
    assert there.code == 0, there.err
    predicted = cli("predict", "run", photos / "snow" / "00.png", "--json")
    (found,) = json.loads(predicted.out)
    assert {entry["class"] for entry in found["predictions"]} == set(NAMES)
    assert cli("eval", "run", "--data", photos).code == 0
    no_data = cli("eval", "run")
    assert no_data.code == 2
    assert "--data NAME" in no_data.err

    for file in ("back.pth.tar", "back.safetensors"):
        back = cli("convert", "run", "--to", "maple", "--out", file)
        assert back.code == 0, back.err
    pickled = torch.load("back.pth.tar", weights_only=True)["state_dict"]
    learned = {name: value for name, value in released.items() if "token_" not in name}
    for written in (pickled, load_file("back.safetensors")):
        assert set(written) == set(learned)
        assert all(torch.equal(written[name], learned[name]) for name in learned)


def test_convert_reads_and_writes_stacks(cli, released, backbone, photos):
    """Low rank over a checkpoint of the host, and dpc from its two files; every run scores as what it was made of."""
    moved = {name: value + 0.1 for name, value in released.items()}
    save_file(released, "tuned.safetensors")
    save_file(moved, "parallel.safetensors")
    into = ("--backbone", backbone, "--classes", "sand,snow,leaf", "--out")
    made = {
        "rlp": cli("convert", "tuned.safetensors", "--from", "maple+rlp", *into, "rlp"),
        "dpc": cli(
            "convert", "parallel.safetensors", "--from", "maple+dpc", "--tuned", "tuned.safetensors", *into, "dpc"
        ),
        "tuned": cli("convert", "tuned.safetensors", "--from", "maple", *into, "tuned"),
        "parallel": cli("convert", "parallel.safetensors", "--from", "maple", *into, "parallel"),
    }
    assert all(answer.code == 0 for answer in made.values()), [answer.err for answer in made.values()]
    picture = photos / "snow" / "00.png"
    score = lambda run, *more: json.loads(cli("predict", run, picture, "--json", *more).out)[0]["predictions"]
    assert score("rlp") == score("tuned")
    assert score("dpc") == score("parallel") != score("tuned")
    new, some = ("--classes", "sand, moss"), ("--classes", "snow, sand")
    assert score("dpc", *new) == score("tuned", *new) != score("parallel", *new)
    assert score("dpc", *some) == score("parallel", *some)  # trained classes in another order, and not all
    assert score("dpc", *some, "--weight", 0) == score("tuned", *some)
    assert "between 0 and 1, got 7" in cli("predict", "dpc", picture, "--weight", 7).err
    assert "this run has one prompt" in cli("predict", "tuned", picture, "--weight", 1).err
    for part, expected in (("tuned", released), ("parallel", moved), ("base", moved), ("new", released)):
        back = cli("convert", "dpc", "--to", "maple+dpc", "--part", part, "--out", f"{part}.tar")
        assert back.code == 0, back.err
        written = torch.load(f"{part}.tar", weights_only=True)["state_dict"]
        assert torch.equal(written["prompt_learner.ctx"], expected["prompt_learner.ctx"])


def test_convert_reads_and_writes_the_two_files_of_textrefiner(cli, backbone, photos):
    draw = torch.Generator().manual_seed(0)
    clip = load_clip(backbone)
    adapter = build("coop+textrefiner", clip, NAMES).adapter
    tensors = to_published("coop+textrefiner", adapter)
    cache = torch.randn(25, clip.image.embed, generator=draw)
    torch.save({"state_dict": {k: v for k, v in tensors.items() if not k.startswith("Memory.")}}, "model.tar")
    torch.save({"memory_item": cache, "state_dict": {"extractor.weight": tensors["Memory.extractor.weight"]}}, "m.tar")
    into = ("--backbone", backbone, "--classes", ",".join(NAMES), "--out", "run")
    alone = cli("convert", "model.tar", "--from", "coop+textrefiner", *into)
    assert alone.code == 2
    assert "--memory" in alone.err
    made = cli("convert", "model.tar", "--from", "coop+textrefiner", "--memory", "m.tar", *into)
    assert made.code == 0, made.err
    assert cli("predict", "run", photos / "snow" / "00.png", "--json").code == 0
    one = cli("convert", "run", "--to", "coop+textrefiner", "--out", "back/model.tar")
    assert one.code == 2
    assert "keeps its cache in a second file" in one.err
    back = cli("convert", "run", "--to", "coop+textrefiner", "--out", "back/model.tar", "--memory", "back/memory.tar")
    assert back.code == 0, back.err
    memory = torch.load("back/memory.tar", weights_only=True)
    assert torch.equal(memory["memory_item"], cache)
    assert set(memory["state_dict"]) == {"extractor.weight"}
    written = torch.load("back/model.tar", weights_only=True)["state_dict"]
    assert torch.equal(written["prompt_learner.ctx"], tensors["prompt_learner.ctx"])
    assert not any(name.startswith("Memory.") for name in written)
    elsewhere = cli("convert", "model.tar", "--from", "coop", "--memory", "m.tar", *into)
    assert "--memory belongs to textrefiner" in elsewhere.err


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["x.tar", "--out", "run"], "say one of --from METHOD"),
        (["x.tar", "--out", "run", "--from", "maple", "--classes", "a,b"], "there is no file x.tar"),
        (["good.safetensors", "--out", "run", "--from", "maple"], "does not hold its class names"),
        (
            ["good.safetensors", "--out", "run", "--from", "coop", "--classes", "a,b"],
            "not a released checkpoint of coop",
        ),
        (
            ["good.safetensors", "--out", "run", "--from", "zeroshot", "--classes", "a,b"],
            "no released checkpoint format",
        ),
        (
            ["bad.tar", "--out", "run", "--from", "maple", "--classes", "a,b"],
            "is damaged, or holds more than tensors",
        ),
        (["nowhere", "--out", "x.tar", "--to", "maple"], "expected the folder of a finished run"),
        (["good.safetensors", "--out", "run", "--from", "maple+dpc", "--classes", "a,b"], "(--tuned)"),
        (["good.safetensors", "--out", "run", "--from", "maple", "--part", "new", "--classes", "a"], "--part to --to"),
    ],
)
def test_bad_input_to_convert_is_one_sentence(cli, released, backbone, words, sentence):
    save_file(released, "good.safetensors")
    Path("bad.tar").write_bytes(b"nothing of the kind")
    answer = cli("convert", *words, *(("--backbone", backbone) if "--from" in words else ()))
    assert answer.code == 2
    assert sentence in answer.err
    assert "Traceback" not in answer.err


def test_convert_refuses_another_method_and_an_existing_file(cli, photos, backbone):
    cli("fit", photos, "--method", "coop", "--epochs", 1, "--out", "run", "--backbone", backbone)
    other = cli("convert", "run", "--to", "maple", "--out", "x.tar")
    assert other.code == 2
    assert "of method 'coop'" in other.err
    Path("x.tar").write_text("precious")
    taken = cli("convert", "run", "--to", "coop", "--out", "x.tar")
    assert taken.code == 2
    assert Path("x.tar").read_text() == "precious"


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["data", "split", "nowhere"], "expected the name of a data set"),
        (["data", "split"], "requires an argument"),
        (["data", "lists"], 'Did you mean "list"?'),
        (["data", "split", "EMPTY"], "found no class folder"),
        (["data", "split", "tinyworld/objects"], "has no files"),
    ],
)
def test_bad_input_to_data_is_one_sentence(cli, tmp_path, words, sentence):
    (tmp_path / "empty").mkdir()
    answer = cli(*(str(tmp_path / "empty") if word == "EMPTY" else word for word in words))
    assert answer.code == 2
    assert sentence in answer.err
    assert "Traceback" not in answer.err
