"""Runs on backbones whose towers are another library's, from the command line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
import yaml

import cliptune
from tests.clip.foreign.test_hugging_face import model_of
from tests.clip.foreign.vocabularies import sentencepiece
from tests.clip.weights.test_other_towers import saved

FIT = ("--shots", 2, "--set", "epochs=1")


@pytest.fixture
def siglip(tmp_path: Path) -> Path:
    return saved(tmp_path / "siglip", "siglip")


def test_fit_predict_and_scores_of_each_class_alone(cli, photos, siglip):
    (photos / "blue jay").rename(photos / "blue-jay")
    answer = cli("fit", photos, "--method", "coop", "--backbone", siglip, "--out", "run", *FIT)
    assert answer.code == 0, answer.out + answer.err
    assert "squash" not in answer.err
    notes = json.loads(Path("run/result.json").read_text())["notes"]
    picture = next((photos / "snow").glob("*.png"))
    shared = json.loads(cli("predict", "run", picture, "--json").out)[0]["predictions"]
    assert sum(entry["probability"] for entry in shared) == pytest.approx(1, abs=1e-3)
    alone = json.loads(cli("predict", "run", picture, "--json", "--scores", "sigmoid").out)[0]["predictions"]
    adapter = cliptune.load("run")
    from PIL import Image

    logits = adapter.logits([Image.open(picture).convert("RGB")])[0]
    for entry in alone:
        expected = torch.sigmoid(logits[adapter.class_names.index(entry["class"])] + adapter.clip.logit_bias)
        assert entry["probability"] == pytest.approx(float(expected), abs=1e-5)
    assert any("is read as 'bluejay'" in note or "blue jay" in note for note in notes)
    verbose = cli("predict", "run", picture, "--verbose")
    assert "squashed to 32 × 32 pixels" in verbose.err


def test_what_was_asked_of_the_weights_is_kept_by_the_run(cli, photos, siglip, tmp_path):
    said = ("--hyphens", "space", "--hide-prompts")
    answer = cli("fit", photos, "--method", "vpt", "--backbone", siglip, "--out", "run", *FIT, *said)
    assert answer.code == 0, answer.out + answer.err
    origin = yaml.safe_load(Path("run/config.yaml").read_text())["backbone"]["origin"]
    assert (origin["hyphens"], origin["hide_prompts"]) == ("space", "yes")
    clip = cliptune.load("run").clip
    assert clip.image.hide_prompts
    assert clip.tokenizer.hyphens == "space"
    before = cli("eval", "run", "--json")
    assert before.code == 0, before.err
    moved = shutil.move(siglip, tmp_path / "moved")
    after = cli("eval", "run", "--json", "--backbone", moved)
    assert after.code == 0, after.err
    assert json.loads(after.out)["accuracy"] == json.loads(before.out)["accuracy"]


def test_sigmoid_scores_need_weights_trained_so(cli, photos, backbone):
    assert cli("fit", photos, "--method", "zeroshot", "--backbone", backbone, "--out", "run", "--shots", 1).code == 0
    answer = cli("predict", "run", photos, "--scores", "sigmoid")
    assert answer.code != 0
    assert "sigmoid scores need a backbone that was trained with a sigmoid loss" in answer.err


def test_a_tower_without_a_place_says_so(cli, photos, tmp_path):
    folder = saved(tmp_path / "convnext", "convnext")
    answer = cli("fit", photos, "--method", "vpt", "--backbone", folder, "--out", "run", *FIT)
    assert answer.code != 0
    assert "prompt tokens need a transformer as image tower, but this backbone has a ConvNeXt of timm" in answer.err
    answer = cli("fit", photos, "--method", "coop", "--backbone", folder, "--out", "run", *FIT)
    assert answer.code == 0, answer.err


def test_backbones_tells_what_is_open(cli, tmp_path):
    told = cli("backbones", saved(tmp_path / "eva", "eva")).out
    assert "image: pixels, tokens, bias, delta, features" in told
    assert "against the library's own pass" in told
    assert (
        "tokens" not in cli("backbones", saved(tmp_path / "convnext", "convnext")).out.split("ports")[1].split(";")[0]
    )


def test_a_siglip_of_transformers_is_fitted_and_opened_again(cli, photos, tmp_path):
    folder = tmp_path / "siglip"
    model_of("siglip").save_pretrained(folder)
    sentencepiece(folder)
    answer = cli("fit", photos, "--method", "maple", "--backbone", folder, "--out", "run", *FIT)
    assert answer.code == 0, answer.out + answer.err
    assert "transformers" not in answer.err  # nothing of its bars and reports
    picture = next((photos / "snow").glob("*.png"))
    answer = cli("predict", "run", picture, "--scores", "sigmoid", "--verbose")
    assert answer.code == 0, answer.err
    assert "squashed to 32 × 32 pixels" in answer.err
    told = cli("backbones", folder).out
    assert "image: pixels, tokens, bias, delta, features" in told
    assert "against the library's own pass" in told


def test_what_needs_clips_own_towers_says_so(cli, photos, tmp_path):
    folder = saved(tmp_path / "eva", "eva")
    answer = cli("convert", folder, "--layout", "open_clip", "--out", "converted")
    assert answer.code != 0
    assert "the towers of eva are another library's (Eva of timm)" in answer.err
    assert cli("fit", photos, "--method", "coop", "--backbone", folder, "--out", "run", *FIT).code == 0
    answer = cli("export", "run", "--to", "folded", "--out", "folded")
    assert answer.code != 0
    assert "the image tower of eva is another library's, Eva of timm. Use" in answer.err
