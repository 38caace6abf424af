from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from cliptune.clip.weights.layouts import LAYOUTS, stored_tensors, write_backbone
from cliptune.clip.weights.load import load_clip
from cliptune.preprocessing import Preprocessing
from tests.clip.weights.checkpoints import hugging_face_tensors, openai_tensors
from tests.conftest import TINY, random_clip

HALF = (0.5, 0.5, 0.5)


def same(ours, theirs):
    return ours.keys() == theirs.keys() and all(
        value.dtype == theirs[name].dtype and torch.equal(value, theirs[name]) for name, value in ours.items()
    )


def mixed(tensors):
    """As OpenAI's archives: large matrices in half precision, the others not."""
    return {name: value.half() if value.ndim > 1 else value for name, value in tensors.items()}


@pytest.mark.parametrize("through", [("open_clip",), ("hugging_face",), ("cliptune",), ("hugging_face", "cliptune")])
@pytest.mark.parametrize("how", [Preprocessing(), Preprocessing("squash", "bilinear", mean=HALF, std=HALF)])
def test_there_and_back_nothing_changes(tmp_path, tiny_clip, through, how):
    first = mixed(openai_tensors(tiny_clip))
    write_backbone(tmp_path / "0", first, tiny_clip.config, how, "open_clip")
    before = load_clip(tmp_path / "0")
    for step, layout in enumerate((*through, "open_clip")):
        clip = load_clip(tmp_path / str(step))
        tensors = stored_tensors(str(tmp_path / str(step)))
        write_backbone(tmp_path / str(step + 1), tensors, clip.config, clip.preprocessing, layout)
    last = tmp_path / str(len(through) + 1)
    assert same(stored_tensors(str(last)), first)
    assert (last / "open_clip_model.safetensors").read_bytes() == (
        tmp_path / "0" / "open_clip_model.safetensors"
    ).read_bytes()
    after = load_clip(last)
    assert (after.config, after.preprocessing) == (before.config, how)


def test_transformers_names_are_written_one_by_one(tmp_path, tiny_clip):
    write_backbone(tmp_path, openai_tensors(tiny_clip), tiny_clip.config, Preprocessing(), "hugging_face")
    expected = hugging_face_tensors(tiny_clip)
    del expected["text_model.embeddings.position_ids"]  # which transformers makes itself
    assert same(load_file(tmp_path / "model.safetensors"), expected)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["vision_config"]["num_attention_heads"] == tiny_clip.config.image_heads
    assert (config["text_config"]["eos_token_id"], config["text_config"]["hidden_act"]) == (49407, "quick_gelu")
    processor = json.loads((tmp_path / "preprocessor_config.json").read_text())
    assert (processor["size"], processor["crop_size"]) == ({"shortest_edge": 32}, {"height": 32, "width": 32})


def test_openais_layout_is_a_state_dict(tmp_path):
    config = replace(TINY, image_width=64, text_width=64, head_width=64, image_layers=1, text_layers=1)
    clip = random_clip(config)
    write_backbone(tmp_path, openai_tensors(clip), config, Preprocessing(), "openai")
    assert same(torch.load(tmp_path / "model.pt", weights_only=True), openai_tensors(clip))
    assert load_clip(tmp_path).config == replace(config, image_head_width=64)


def test_resnets_keep_their_whole_numbers(tmp_path, tiny_resnet):
    tensors = openai_tensors(tiny_resnet)
    write_backbone(tmp_path, tensors, tiny_resnet.config, Preprocessing(), "open_clip")
    assert same(stored_tensors(str(tmp_path)), tensors)
    with pytest.raises(ValueError, match="transformers' CLIPModel has no ResNet"):
        write_backbone(tmp_path, tensors, tiny_resnet.config, Preprocessing(), "hugging_face")


@pytest.mark.parametrize(
    ("layout", "change", "how", "sentence"),
    [
        ("openai", {"activation": "gelu"}, {}, "OpenAI's code has QuickGELU alone, and this CLIP has gelu"),
        ("openai", {}, {}, "OpenAI's code has heads of 64 alone"),
        ("hugging_face", {}, {"resize": "longest"}, "image processor does not know long side to 32"),
        ("open_clip", {}, {"oversize": 1.5}, "open_clip's configuration does not know short side to 48"),
        ("onnx", {}, {}, "must be one of openai, open_clip"),
    ],
)
def test_what_a_layout_has_no_place_for_is_a_sentence(tmp_path, tiny_clip, layout, change, how, sentence):
    config = replace(tiny_clip.config, **change)
    with pytest.raises(ValueError, match=sentence):
        write_backbone(tmp_path, openai_tensors(tiny_clip), config, Preprocessing(**how), layout)


@pytest.mark.parametrize(("width", "inner"), [(40, 33), (1408, 6144), (1664, 8192), (1792, 15360)])
def test_an_inner_width_survives_open_clips_ratio(tmp_path, tiny_clip, width, inner):
    """open_clip computes int(width · ratio)."""
    config = replace(tiny_clip.config, image_width=width, image_mlp=inner)
    write_backbone(tmp_path, openai_tensors(tiny_clip), config, Preprocessing(), "open_clip")
    ratio = json.loads((tmp_path / "open_clip_config.json").read_text())["model_cfg"]["vision_cfg"]["mlp_ratio"]
    assert int(width * ratio) == inner


def test_mini_has_every_layout(tmp_path):
    clip = load_clip("mini")
    for layout in LAYOUTS:
        write_backbone(tmp_path / layout, stored_tensors("mini"), clip.config, clip.preprocessing, layout)
        again = load_clip(tmp_path / layout)
        assert all(torch.equal(a, b) for a, b in zip(clip.parameters(), again.parameters(), strict=True))


def test_split_weights_are_put_together(tmp_path, tiny_clip):
    from tests.clip.weights.test_load_hub import split

    for name, content in split(openai_tensors(tiny_clip)).items():
        (tmp_path / name).write_bytes(content)
    assert same(stored_tensors(str(tmp_path)), openai_tensors(tiny_clip))
    save_file(openai_tensors(tiny_clip), tmp_path / "whole.safetensors")
    assert same(stored_tensors(str(tmp_path / "whole.safetensors")), openai_tensors(tiny_clip))
