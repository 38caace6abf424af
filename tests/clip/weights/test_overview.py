from __future__ import annotations

import json

import pytest
from safetensors.torch import save_file

from cliptune.clip.weights.architectures import architecture, architecture_names
from cliptune.clip.weights.load import load_clip
from cliptune.clip.weights.openai import OPENAI_CONFIGS
from cliptune.clip.weights.overview import (
    count_parameters,
    described,
    known_backbones,
    listed_backbone,
    stated_licence,
)
from tests.clip.weights.checkpoints import openai_tensors

# Of open_clip 3.3.0's own models, counted without memory (benchmarks/openai_like.py).
PARAMETERS = {
    "RN50": 102_007_137,
    "RN50x64": 623_258_305,
    "ViT-S-16-alt": 42_396_161,
    "ViT-M-32-alt": 80_070_273,
    "ViT-B-16-plus-240": 208_377_345,
    "ViT-B-32-256": 151_288_833,
    "ViT-L-14-336": 427_944_193,
    "ViT-H-14-378": 986_714_881,
    "ViT-g-14": 1_366_678_273,
    "ViT-bigG-14": 2_539_567_105,
    "ViT-e-14": 4_581_086_465,
}


@pytest.mark.parametrize("name", PARAMETERS)
def test_architectures_have_as_many_parameters_as_open_clips(name):
    assert count_parameters(architecture(name).config) == PARAMETERS[name]


def test_parameters_are_those_of_a_clip(tiny_clip):
    assert count_parameters(tiny_clip.config) == sum(value.numel() for value in tiny_clip.parameters())


def test_sizes_of_openais_nine_are_those_of_open_clips_architectures():
    for name, config in OPENAI_CONFIGS.items():
        other = architecture(name.replace("/", "-").replace("@", "-").removesuffix("px") + "-quickgelu").config
        assert other == config


def test_every_architecture_has_whole_heads():
    for name in architecture_names():
        config = architecture(name).config
        assert config.image_heads >= 1
        assert config.text_heads == config.text_width // 64


def test_every_weights_has_one_name():
    found = list(known_backbones())
    names = [one.name for one in found]
    assert len(names) == len(set(names)) == 1 + 9 + 61
    hub = [one.source for one in found if one.source.startswith("hf-hub:")]
    # open_clip 3.3.0 lists one repository for two tags; `load_clip` notes it.
    twice = {source for source in hub if hub.count(source) > 1}
    assert twice == {"hf-hub:timm/vit_base_patch16_plus_clip_240.laion400m_e31"}
    for one in found:
        assert ("tokens" in one.image_ports) == (not one.name.startswith("RN"))


@pytest.mark.parametrize(
    ("asked", "name"),
    [
        ("mini", "mini"),
        ("vit_b16", "ViT-B/16"),
        ("ViT-B-16:openai", "ViT-B/16"),
        ("ViT-H-14:dfn5b", "ViT-H-14:dfn5b"),
        ("ViT-B-17", None),
    ],
)
def test_one_is_found_by_its_name(asked, name):
    found = listed_backbone(asked)
    assert (found and found.name) == name


def test_a_listed_one_tells_what_its_weights_were_trained_with():
    one = listed_backbone("ViT-H-14:dfn5b")
    assert (one.activation, one.width, one.layers, one.resolution) == ("quick_gelu", 1280, 32, 224)
    assert one.pictures.startswith("squashed to 224 × 224 pixels (bicubic)")


@pytest.mark.parametrize(
    ("file", "content", "licence"),
    [
        ("README.md", "---\nlanguage: en\nlicense: mit\ntags:\n- clip\n---\n# CLIP\n", "mit"),
        ("README.md", "# CLIP\nlicense: none\n", ""),
        ("open_clip_config.json", json.dumps({"model_cfg": {}, "license": "apache-2.0"}), "apache-2.0"),
    ],
)
def test_a_licence_is_what_the_configuration_says(tiny_clip, tmp_path, file, content, licence):
    save_file(openai_tensors(tiny_clip), tmp_path / "model.safetensors")
    (tmp_path / file).write_text(content)
    clip = load_clip(tmp_path, activation="gelu", head_width=8)
    assert stated_licence(clip) == licence
    assert described(clip).source == str(tmp_path / "model.safetensors")
