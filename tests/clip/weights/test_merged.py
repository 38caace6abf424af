"""A LoRA of PEFT on transformers' CLIPModel, written as PEFT 0.21 writes it, and merged by W + s B A."""

from __future__ import annotations

import json
import math

import pytest
import torch
from safetensors.torch import save_file

from cliptune.clip.weights.load import load_clip
from tests.clip.weights.checkpoints import hugging_face_tensors, openai_tensors

Q = "vision_model.encoder.layers.1.self_attn.q_proj"
FC = "text_model.encoder.layers.0.mlp.fc1"
HEADS = {"text_config": {"num_attention_heads": 3}, "vision_config": {"num_attention_heads": 5}}


@pytest.fixture
def base(tmp_path, tiny_clip):
    folder = tmp_path / "base"
    folder.mkdir()
    save_file(hugging_face_tensors(tiny_clip), folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(HEADS))
    return folder


def adapter(folder, base, tensors=None, **config):
    """With rank 2 on two weights."""
    generator = torch.Generator().manual_seed(0)
    draw = lambda *shape: torch.randn(shape, generator=generator)
    own = {
        f"{Q}.lora_A.weight": draw(2, 40),
        f"{Q}.lora_B.weight": draw(40, 2),
        f"{FC}.lora_A.weight": draw(2, 24),
        f"{FC}.lora_B.weight": draw(96, 2),
    }
    folder.mkdir(exist_ok=True)
    own.update(tensors or {})
    save_file({f"base_model.model.{name}": value for name, value in own.items()}, folder / "adapter_model.safetensors")
    written = {"peft_type": "LORA", "base_model_name_or_path": str(base), "lora_alpha": 8, "r": 2, **config}
    (folder / "adapter_config.json").write_text(json.dumps(written))
    return own


@pytest.mark.parametrize(
    ("config", "scale_q", "scale_fc"),
    [
        ({}, 4, 4),
        ({"use_rslora": True}, 8 / math.sqrt(2), 8 / math.sqrt(2)),
        ({"alpha_pattern": {"q_proj": 3}}, 1.5, 4),
        ({"alpha_pattern": {"layers.0.mlp.fc1": 6}}, 4, 3),
    ],
)
def test_it_is_merged_when_it_is_opened(tmp_path, base, tiny_clip, config, scale_q, scale_fc):
    own = adapter(tmp_path / "lora", base, **config)
    clip = load_clip(tmp_path / "lora")
    expected = hugging_face_tensors(tiny_clip)
    for module, scale in ((Q, scale_q), (FC, scale_fc)):
        expected[f"{module}.weight"] += scale * own[f"{module}.lora_B.weight"] @ own[f"{module}.lora_A.weight"]
    found = openai_tensors(clip)
    q = found["visual.transformer.resblocks.1.attn.in_proj_weight"][:40]
    torch.testing.assert_close(q, expected[f"{Q}.weight"])
    torch.testing.assert_close(found["transformer.resblocks.0.mlp.c_fc.weight"], expected[f"{FC}.weight"])
    changed = {name for name, value in openai_tensors(tiny_clip).items() if not torch.equal(value, found[name])}
    assert changed == {
        "visual.transformer.resblocks.1.attn.in_proj_weight",
        "transformer.resblocks.0.mlp.c_fc.weight",
    }
    assert any("the LoRA adapter of lora was merged into 2 tensors" in note for note in clip.notes)
    assert (clip.name, clip.origin["source"]) == ("lora", str(tmp_path / "lora"))
    assert clip.origin["sha256"] != load_clip(base).origin["sha256"]


def test_modules_and_biases_that_were_trained_whole_take_their_place(tmp_path, base):
    whole = {"visual_projection.weight": torch.ones(16, 40), f"{FC}.base_layer.bias": torch.ones(96)}
    adapter(tmp_path / "lora", base, whole)
    clip = load_clip(tmp_path / "lora")
    assert torch.equal(clip.image.proj.data, torch.ones(40, 16))
    assert torch.equal(openai_tensors(clip)["transformer.resblocks.0.mlp.c_fc.bias"], torch.ones(96))


def test_a_base_beside_the_adapter_is_found(tmp_path, base):
    adapter(tmp_path / "lora", "../base")
    assert load_clip(tmp_path / "lora").config == load_clip(base).config


@pytest.mark.parametrize(
    ("tensors", "config", "sentence"),
    [
        ({}, {"peft_type": "IA3"}, r"of PEFT's kind 'IA3'; only LORA is merged here\..*merge_and_unload"),
        ({}, {"use_dora": True}, r"has use_dora = True, which is not merged here\..*merge_and_unload"),
        ({}, {"base_model_name_or_path": None}, "names no base_model_name_or_path"),
        ({}, {"lora_alpha": "big"}, "lora_alpha must be a number"),
        ({"classifier.weight": torch.ones(2, 2)}, {}, "'classifier.weight' is no LoRA of a Linear"),
        ({f"{Q}.lora_A.weight": torch.ones(2, 41)}, {}, "does not fit a weight of .*base"),
        ({f"{Q}.lora_B.weight": torch.ones(40, 3)}, {}, "does not fit a weight of .*base"),
    ],
)
def test_what_is_not_merged_is_a_sentence(tmp_path, base, tensors, config, sentence):
    adapter(tmp_path / "lora", base, tensors, **config)
    with pytest.raises(ValueError, match=sentence):
        load_clip(tmp_path / "lora")
