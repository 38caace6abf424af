from __future__ import annotations

import json

import torch
from safetensors.torch import load_file


def test_all_that_have_a_name_are_listed(cli):
    answer = cli("backbones", "--json")
    assert answer.code == 0, answer.err
    rows = {row["name"]: row for row in json.loads(answer.out)}
    assert rows["ViT-B/16"]["parameters"] == 149_620_737
    assert rows["ViT-L-14:laion2b_s32b_b82k"]["pictures"].endswith("mean 0.5 0.5 0.5, deviation 0.5 0.5 0.5")
    assert rows["RN50"]["image_ports"] == ["pixels", "features"]
    assert "ViT-bigG-14:laion2b_s39b_b160k" in cli("backbones").out


def test_one_is_told_without_its_weights(cli):
    out = cli("backbones", "ViT-H-14:dfn5b").out
    assert "from hf-hub:apple/DFN5B-CLIP-ViT-H-14" in out
    assert "squashed to 224 × 224 pixels" in out
    assert "pixels, tokens, bias, delta, features" in out
    assert "random weights of the architecture, against open_clip 3.3.0" in out


def test_a_part_of_a_name_narrows_the_list(cli):
    out = cli("backbones", "bigG").out
    assert "ViT-bigG-14:metaclip_fullcc" in out
    assert "ViT-B-32" not in out


def test_those_with_other_towers_are_listed_too(cli):
    rows = {row["name"]: row for row in json.loads(cli("backbones", "SigLIP2", "--json").out)}
    assert rows["ViT-B-16-SigLIP2:webli"]["source"] == "hf-hub:timm/ViT-B-16-SigLIP2"
    assert all("SigLIP2" in name and "tokens" in row["image_ports"] for name, row in rows.items())
    assert "also on loading" in cli("backbones", "EVA02").out
    told = cli("backbones", "convnext_base:laion400m_s13b_b51k").out
    assert "image: pixels, features; text: tokens, bias, delta" in told
    uncounted = cli("backbones", "xlm-roberta-base").out
    assert "text tower of transformers, not counted" in uncounted
    assert "text: none" in uncounted
    # A name that several weights have is none yet.
    assert "ViT-B-16-SigLIP2:webli" in cli("backbones", "ViT-B-16-SigLIP2").out


def test_a_file_is_opened(cli, backbone):
    answer = cli("backbones", backbone, "--activation", "quick_gelu")
    assert answer.code == 0, answer.err
    assert f"from {backbone}" in answer.out or "backbone" in answer.out
    assert "not listed: compare it" in answer.out
    unknown = cli("backbones", "ViT-Z-99")
    assert unknown.code == 2
    assert "neither a known CLIP nor a file" in unknown.err


def test_weights_become_another_librarys(cli, backbone):
    words = ("convert", backbone, "--activation", "quick_gelu")
    made = cli(*words, "--layout", "hugging_face", "--out", "theirs")
    assert made.code == 0, made.err
    assert "bit for bit" in made.out
    again = cli("convert", "theirs", "--layout", "open_clip", "--out", "back")
    assert again.code == 0, again.err
    assert same(load_file(backbone), load_file("back/open_clip_model.safetensors"))
    assert "exists already" in cli(*words, "--layout", "cliptune", "--out", "back").err
    assert "say one of --from METHOD" in cli(*words, "--out", "x").err


def same(ours, theirs):
    return ours.keys() == theirs.keys() and all(torch.equal(value, theirs[name]) for name, value in ours.items())
