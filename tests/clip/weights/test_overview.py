from __future__ import annotations

import json

import pytest
from safetensors.torch import save_file

from cliptune.clip.foreign.build import foreign_model
from cliptune.clip.weights.architectures import architecture, architecture_names
from cliptune.clip.weights.load import load_clip
from cliptune.clip.weights.openai import OPENAI_CONFIGS
from cliptune.clip.weights.others import other_architectures, other_weights
from cliptune.clip.weights.overview import (
    OF_LIBRARY,
    count_parameters,
    described,
    known_backbones,
    listed_backbone,
    stated_licence,
)
from cliptune.clip.weights.pretrained import listed_weights, named_weights
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
    assert len(names) == len(set(names)) == 1 + 9 + 61 + len(other_weights())
    found = [one for one in found if one.activation != OF_LIBRARY]
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


def test_one_with_other_towers_tells_its_sizes_and_ports():
    one = listed_backbone("ViT-B-16-SigLIP2:webli")
    assert one.source == "hf-hub:timm/ViT-B-16-SigLIP2"
    assert (one.width, one.layers, one.resolution, one.context) == (768, 12, 224, 64)
    assert one.pictures.startswith("squashed to 224 × 224 pixels (bicubic); mean 0.5 0.5 0.5")
    assert "tokens" in one.image_ports
    closed = listed_backbone("MobileCLIP2-S0:dfndr2b")
    assert (closed.image_ports, closed.text_ports) == (("pixels", "features"), ("tokens", "bias", "delta"))
    uncounted = listed_backbone("xlm-roberta-base-ViT-B-32:laion5b_s13b_b90k")
    assert (uncounted.parameters, uncounted.megabytes, uncounted.text_ports) == (None, None, ())


@pytest.mark.parametrize("name", ["ViT-B-32-SigLIP2-256", "EVA02-B-16", "coca_ViT-B-32", "convnext_base"])
def test_sizes_of_others_are_those_of_open_clips_models(name):
    import open_clip
    import torch

    with torch.device("meta"):
        model = foreign_model(open_clip.get_model_config(name), name)
    spoken = getattr(model, "text_decoder", None)  # a CoCa's half that only speaks
    count = sum(value.numel() for value in model.parameters())
    count -= sum(value.numel() for value in spoken.parameters()) if spoken is not None else 0
    # The bias of a sigmoid loss is no parameter here.
    assert other_architectures()[name].parameters == count - int(model.logit_bias is not None)
    assert other_architectures()[name].resolution in (model.visual.image_size, model.visual.image_size[0])


def test_the_tables_hold_all_that_open_clip_lists():
    import open_clip

    mine = {(line.architecture.name, line.tag) for line in other_weights()}
    mine |= {(line.architecture, line.tag) for line in listed_weights()}
    theirs = set(open_clip.list_pretrained())
    # One activation has one tag here, whatever the architecture is called.
    missing = {pair for pair in theirs - mine if named_weights(*pair) is None}
    assert not missing
    assert len(other_architectures()) > 80


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
