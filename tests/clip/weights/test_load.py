"""`load_clip` from files and folders: formats, layouts, activations, and a sentence for what does not fit."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from cliptune.clip import CLIP, CLIPConfig
from cliptune.clip.tokenizer import default_tokenizer
from cliptune.clip.weights import architectures
from cliptune.clip.weights.checkpoint import sha256
from cliptune.clip.weights.load import load_clip
from tests.clip.weights.checkpoints import HEAD_WIDTH, SAID, hugging_face_tensors, openai_tensors, same_weights
from tests.conftest import random_clip


@pytest.fixture(scope="module")
def tensors(tiny_clip):
    return openai_tensors(tiny_clip)


def custom_text(tensors):
    """open_clip's models with a separate text tower: `visual.*`, `text.*`, one value in a vector."""
    renamed = {
        name if name.startswith("visual.") or name == "logit_scale" else f"text.{name}": value
        for name, value in tensors.items()
    }
    return renamed | {"logit_scale": tensors["logit_scale"].reshape(1), "text.attn_mask": torch.zeros(77, 77)}


WRAPPINGS = {
    "plain": lambda t: t,
    "module": lambda t: {f"module.{name}": value for name, value in t.items()},
    "state_dict": lambda t: {"epoch": 3, "name": "run", "state_dict": t, "optimizer": {"lr": 0.1}},
    "compiled and parallel": lambda t: {"state_dict": {f"module._orig_mod.{k}": v for k, v in t.items()}},
    "with sizes": lambda t: t | {"input_resolution": torch.tensor(32), "vocab_size": torch.tensor(49408)},
    "half": lambda t: {name: value.half() for name, value in t.items()},
    "custom text": custom_text,
    "our own": lambda t: {
        ("image" + k[6:] if k.startswith("visual.") else k if k == "logit_scale" else f"text.{k}"): v
        for k, v in t.items()
    },
}


@pytest.mark.parametrize(
    ("wrapping", "suffix"),
    [
        (wrapping, suffix)
        for wrapping in WRAPPINGS
        for suffix in (".pt", ".pth", ".bin", ".safetensors")
        if suffix != ".safetensors" or wrapping not in ("state_dict", "compiled and parallel")
    ],
)
def test_every_wrapping_gives_the_same_weights(tensors, tmp_path, suffix, wrapping):
    content = WRAPPINGS[wrapping](tensors)
    path = tmp_path / f"weights{suffix}"
    if suffix == ".safetensors":
        save_file(content, path)
    else:
        torch.save(content, path)
    expected = {k: v.half() for k, v in tensors.items()} if wrapping == "half" else tensors
    assert same_weights(load_clip(path, **SAID), expected)


def test_file_of_the_time_before_zip_is_read(tensors, tmp_path):
    torch.save(tensors, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    assert same_weights(load_clip(tmp_path / "old.pt", **SAID), tensors)


def test_resnet_state_dict_is_read(tiny_resnet, tmp_path):
    torch.save(openai_tensors(tiny_resnet), tmp_path / "rn.pt")
    clip = load_clip(tmp_path / "rn.pt", **SAID)
    assert same_weights(clip, openai_tensors(tiny_resnet))
    assert clip.config == tiny_resnet.config


def test_hugging_face_layout_is_read_in_any_order(tiny_clip, tensors, tmp_path):
    theirs = hugging_face_tensors(tiny_clip)
    save_file(dict(reversed(theirs.items())), tmp_path / "model.safetensors")
    config = {"text_config": {"num_attention_heads": 3}, "vision_config": {"num_attention_heads": 5}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    clip = load_clip(tmp_path)
    assert same_weights(clip, tensors)
    assert (clip.config.text_heads, clip.config.image_heads) == (3, 5)
    assert (clip.origin["layout"], clip.config.activation) == ("hugging_face", "quick_gelu")


def test_loaded_clip_is_frozen_and_complete(tiny_clip, tensors, tmp_path):
    path = tmp_path / "weights.pt"
    torch.save(tensors, path)
    clip = load_clip(path, **SAID)
    assert isinstance(clip, CLIP)
    assert not clip.training
    assert not any(p.requires_grad for p in clip.parameters())
    assert clip.tokenizer is default_tokenizer()
    assert clip.name == "weights"
    assert clip.origin == {
        "source": str(path),
        "file": "weights.pt",
        "sha256": sha256(path),
        "layout": "openai",
        "activation": "quick_gelu",
        "activation_from": "argument",
    }
    images = torch.randn(2, 1, 3, 32, 32)
    assert torch.equal(clip.encode_image(images), tiny_clip.encode_image(images))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_weights_are_cast_to_dtype(tensors, tmp_path, dtype):
    torch.save({name: value.half() for name, value in tensors.items()}, tmp_path / "half.pt")
    clip = load_clip(tmp_path / "half.pt", dtype=dtype, **SAID)
    assert {p.dtype for p in clip.parameters()} == {dtype}


# -- activation --------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", ["openai", "open_clip", "cliptune"])
@pytest.mark.parametrize(
    "file", ["ViT-B-16.pt", "open_clip_pytorch_model.bin", "laion/epoch_3.pt", "quickgelu/runs/x.pt", "datacomp/x.pt"]
)
def test_activation_of_a_lone_file_is_asked_for_whatever_its_folder_is_called(tensors, tmp_path, file, layout):
    wrap = {"openai": "module", "open_clip": "custom text", "cliptune": "our own"}[layout]
    path = tmp_path / file
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(WRAPPINGS[wrap](tensors), path)
    sentence = r"do not tell the activation.*Say quick_gelu if .*say gelu if .*--activation .*--arch .*open_clip_config"
    with pytest.raises(ValueError, match=sentence):
        load_clip(path, head_width=HEAD_WIDTH)
    for activation in ("quick_gelu", "gelu"):
        clip = load_clip(path, head_width=HEAD_WIDTH, activation=activation)
        assert (clip.config.activation, clip.origin["activation_from"]) == (activation, "argument")


def test_activation_must_be_a_known_one(tensors, tmp_path):
    torch.save(tensors, tmp_path / "weights.pt")
    with pytest.raises(ValueError, match="activation must be one of quick_gelu, gelu, got 'relu'"):
        load_clip(tmp_path / "weights.pt", activation="relu")


@pytest.mark.parametrize(("arch", "expected"), [("ViT-T-8", "gelu"), ("ViT-T-8-quickgelu", "quick_gelu")])
def test_architecture_decides_and_must_fit(tensors, tmp_path, monkeypatch, arch, expected):
    monkeypatch.setitem(architectures._SIZES, "ViT-T-8", (16, 32, 40, 3, 8))
    torch.save(tensors, tmp_path / "weights.pt")
    clip = load_clip(tmp_path / "weights.pt", head_width=HEAD_WIDTH, arch=arch)
    assert (clip.config.activation, clip.origin["activation_from"]) == (expected, f"architecture {arch}")
    with pytest.raises(ValueError, match=r"it is not a ViT-B-16: embed should be 512, is 16"):
        load_clip(tmp_path / "weights.pt", head_width=HEAD_WIDTH, arch="ViT-B-16")
    other = "gelu" if expected == "quick_gelu" else "quick_gelu"
    with pytest.raises(ValueError, match=f"has the activation {expected}, but activation="):
        load_clip(tmp_path / "weights.pt", arch=arch, activation=other)


def test_architecture_of_two_readings_or_of_none_is_a_sentence():
    with pytest.raises(ValueError, match=r"two ways\. Write ViT-B-16 for .* or ViT-B-16-quickgelu for"):
        load_clip("some.pt", arch="ViT-B/16")
    with pytest.raises(ValueError, match=r"got 'ViT-B-17'\. Did you mean ViT-B-16"):
        load_clip("some.pt", arch="ViT-B-17")
    with pytest.raises(ValueError, match="one architecture, its own"):
        load_clip("mini", arch="ViT-B-16")


@pytest.mark.parametrize(("quick", "expected"), [(True, "quick_gelu"), (False, "gelu"), (None, "gelu")])
def test_open_clip_configuration_decides(tensors, tmp_path, quick, expected):
    save_file(tensors, tmp_path / "open_clip_model.safetensors")
    config = {
        "model_cfg": {
            "embed_dim": 16,
            "vision_cfg": {"image_size": 32, "layers": 3, "width": 40, "patch_size": 8, "head_width": 10},
            "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 24, "heads": 2, "layers": 4},
        },
        "preprocess_cfg": {"mean": [0.5, 0.4, 0.3], "std": [0.25, 0.5, 0.75]},
    }
    if quick is not None:
        config["model_cfg"]["quick_gelu"] = quick
    (tmp_path / "open_clip_config.json").write_text(json.dumps(config))
    clip = load_clip(tmp_path)
    assert clip.config.activation == expected
    assert (clip.config.image_heads, clip.config.text_heads) == (4, 2)
    assert (clip.mean, clip.std) == ((0.5, 0.4, 0.3), (0.25, 0.5, 0.75))
    assert clip.origin["activation_from"] == "configuration file"


def test_hugging_face_configuration_decides(tiny_clip, tmp_path):
    save_file(hugging_face_tensors(tiny_clip), tmp_path / "model.safetensors")
    heads = {"text_config": {"num_attention_heads": 3}, "vision_config": {"num_attention_heads": 5}}
    for tower in heads.values():
        tower["hidden_act"] = "gelu"
    (tmp_path / "config.json").write_text(json.dumps(heads))
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({"image_mean": [0.1, 0.2, 0.3]}))
    clip = load_clip(tmp_path / "model.safetensors")
    assert clip.config.activation == "gelu"
    assert clip.mean == (0.1, 0.2, 0.3)


@pytest.mark.parametrize(
    ("file", "config", "sentence"),
    [
        ("config.json", {"text_config": {"hidden_act": "relu"}}, "hidden_act must be quick_gelu or gelu"),
        ("config.json", {"vision_config": {"layer_norm_eps": 1e-6}}, "layer_norm_eps must be 1e-05"),
        ("config.json", {"text_config": {"eos_token_id": 7}}, "end-of-text token must be 49407 .* got 7"),
        ("config.json", [1], "must hold a JSON object, got a list"),
        ("config.json", "broken", "is not valid JSON"),
        ("preprocessor_config.json", {"image_mean": [0.5]}, "three numbers, one per channel"),
    ],
)
def test_unusable_hugging_face_configuration_is_a_sentence(tiny_clip, tmp_path, file, config, sentence):
    save_file(hugging_face_tensors(tiny_clip), tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / file).write_text("{" if config == "broken" else json.dumps(config))
    with pytest.raises(ValueError, match=sentence):
        load_clip(tmp_path)


@pytest.mark.parametrize(
    ("tower", "option", "value"),
    [
        ("vision_cfg", "timm_model_name", "x"),
        ("vision_cfg", "attentional_pool", True),
        ("text_cfg", "embed_cls", True),
    ],
)
def test_open_clip_towers_that_are_not_clips_are_named(tensors, tmp_path, tower, option, value):
    save_file(tensors, tmp_path / "open_clip_model.safetensors")
    (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": {tower: {option: value}}}))
    with pytest.raises(ValueError, match=f"tower has {option} = .*which CLIP's towers do not have"):
        load_clip(tmp_path)


def test_a_lone_file_notes_what_nothing_says(tensors, tmp_path):
    torch.save(tensors, tmp_path / "weights.pt")
    notes = " ".join(load_clip(tmp_path / "weights.pt", head_width=HEAD_WIDTH, activation="gelu").notes)
    assert "nothing says how it pools and masks, so OpenAI's way was taken" in notes


def test_other_kinds_of_transformers_are_named(tiny_clip, tmp_path):
    save_file(hugging_face_tensors(tiny_clip), tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "clipseg"}))
    with pytest.raises(ValueError, match="a model of the kind 'clipseg'"):
        load_clip(tmp_path)


# -- what does not fit -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"visual.ln_pre.weight": None}, r"missing image\.ln_pre\.weight; unexpected none"),
        ({"token_embedding.weight": None}, r"'token_embedding\.weight' is missing"),
        ({"visual.stranger": torch.ones(1)}, r"missing none; unexpected image\.stranger"),
        ({"visual.proj": torch.ones(40, 7)}, r"tensor image\.proj must have shape \(40, 16\), got \(40, 7\)"),
        ({"token_embedding.weight": torch.ones(100, 24)}, r"vocabulary must be OpenAI's, .* has 100 rows"),
        ({"visual.trunk.x": torch.ones(1)}, r"'visual\.trunk\.x' belongs to a tower of another library"),
    ],
    ids=["missing", "no vocabulary", "spare", "shape", "vocabulary", "timm"],
)
def test_wrong_tensor_names_itself_and_the_file(tensors, tmp_path, change, sentence):
    torch.save({k: v for k, v in (tensors | change).items() if v is not None}, tmp_path / "odd.pt")
    with pytest.raises(ValueError, match=rf"load_clip: .*odd\.pt cannot be loaded as a CLIP: .*{sentence}"):
        load_clip(tmp_path / "odd.pt", **SAID)


def test_wrong_hugging_face_tensor_names_itself(tiny_clip, tmp_path):
    theirs = hugging_face_tensors(tiny_clip)
    key = "vision_model.encoder.layers.1.self_attn.k_proj.bias"
    torch.save({name: value for name, value in theirs.items() if name != key}, tmp_path / "model.pt")
    with pytest.raises(ValueError, match=f"tensor '{key}' is missing"):
        load_clip(tmp_path / "model.pt", **SAID)
    torch.save(theirs | {"text_model.adapter.weight": torch.ones(1)}, tmp_path / "model.pt")
    with pytest.raises(ValueError, match=r"'text_model\.adapter\.weight' is not part of a Hugging Face CLIPModel"):
        load_clip(tmp_path / "model.pt", **SAID)


def test_width_that_heads_do_not_divide_is_a_sentence(tensors, tmp_path):
    torch.save(tensors, tmp_path / "weights.pt")
    with pytest.raises(ValueError, match="not a multiple of the head width 64"):
        load_clip(tmp_path / "weights.pt", activation="gelu")


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ({"fc.weight": torch.ones(2)}, "it is not a CLIP: .* neither is there .* fc.weight"),
        ({"visual.proj": torch.ones(2)}, "it is not a CLIP: .* only one of them is there"),
        ({"a": 3}, "entry 'a' is a int where a tensor was expected"),
        ([torch.ones(2)], "holds a list where a dictionary of tensors was expected"),
        ({}, "holds a dict where"),
    ],
)
def test_file_that_is_not_a_clip_is_a_sentence(tmp_path, content, sentence):
    torch.save(content, tmp_path / "other.pt")
    with pytest.raises(ValueError, match=sentence):
        load_clip(tmp_path / "other.pt")


def test_pickle_that_runs_code_is_refused(tmp_path):
    class Evil:
        def __reduce__(self):
            return exec, (f"open({str(tmp_path / 'ran')!r}, 'w')",)

    torch.save({"state_dict": Evil()}, tmp_path / "evil.pt")
    (tmp_path / "bare.pt").write_bytes(pickle.dumps(Evil(), protocol=2))
    torch.save(torch.nn.Linear(2, 2), tmp_path / "module.pt")
    for file in ("evil.pt", "bare.pt", "module.pt"):
        with pytest.raises(ValueError, match=rf"{file} was refused: it holds more than tensors.*state_dict"):
            load_clip(tmp_path / file)
    assert not (tmp_path / "ran").exists()


def test_broken_files_are_sentences(tensors, tmp_path):
    torch.save(tensors, tmp_path / "whole.pt")
    save_file(tensors, tmp_path / "whole.safetensors")
    zipped, safe = (tmp_path / "whole.pt").read_bytes(), (tmp_path / "whole.safetensors").read_bytes()
    cases = {
        "empty.pt": (b"", "is empty"),
        "cut.pt": (zipped[: len(zipped) // 2], "is cut off"),
        "cut.safetensors": (safe[: len(safe) // 2], "is not a whole safetensors file"),
        "text.pt": (b"<html>404</html>", "is not a weights file.*looks like a web page"),
        "image.pt": (b"\xff\xd8\xff\xe0 jpeg", "is not a weights file.*Download the weights themselves"),
        "pickle.pt": (b"\x80\x02nonsense", "pickle.pt (is damaged|was refused)"),
    }
    for file, (content, sentence) in cases.items():
        (tmp_path / file).write_bytes(content)
        with pytest.raises(ValueError, match=sentence):
            load_clip(tmp_path / file)


# -- names and folders -------------------------------------------------------------------------------


def test_unknown_name_offers_the_nearest():
    with pytest.raises(ValueError, match=r"'ViT-B/17' is neither .* Did you mean ViT-B/16"):
        load_clip("ViT-B/17")
    with pytest.raises(ValueError, match="goes with an architecture of OpenAI, not 'ViT-X/99'"):
        load_clip("ViT-X/99", pretrained="openai")
    with pytest.raises(ValueError, match=r"a tag of open_clip.*'laion2b_s34b_b89k' is none.*lists laion2b_s34b_b88k"):
        load_clip("ViT-B-16", pretrained="laion2b_s34b_b89k")
    with pytest.raises(ValueError, match="has one set of weights, which is shipped"):
        load_clip("mini", pretrained="openai")


def test_missing_path_is_a_sentence(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no file or folder .*weights\.pt"):
        load_clip(tmp_path / "weights.pt")
    with pytest.raises(FileNotFoundError, match=r"there is no file or folder .*weights\.pt"):
        load_clip("ViT-B/16", pretrained=tmp_path / "weights.pt")


def test_folder_with_one_file_is_read_and_with_two_is_asked_about(tensors, tmp_path):
    with pytest.raises(FileNotFoundError, match="found none"):
        load_clip(tmp_path)
    torch.save(tensors, tmp_path / "a.pt")
    assert same_weights(load_clip(tmp_path, **SAID), tensors)
    torch.save(tensors, tmp_path / "b.pt")
    with pytest.raises(FileNotFoundError, match=r"found a\.pt, b\.pt\. Give the path of the file"):
        load_clip(tmp_path)
    (tmp_path / "model.safetensors.index.json").write_text("{}")
    with pytest.raises(ValueError, match="has no weight_map of tensors to files"):
        load_clip(tmp_path)


@pytest.mark.parametrize("spell", ["./RN50", Path("RN50"), "RN50/weights.pt"], ids=str)
def test_path_spelled_like_a_name_is_a_path(tensors, tmp_path, monkeypatch, spell):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "RN50").mkdir()
    torch.save(tensors, tmp_path / "RN50" / "weights.pt")
    assert same_weights(load_clip(spell, **SAID), tensors)


def test_architecture_and_file_must_agree(tensors, tmp_path):
    torch.save(tensors, tmp_path / "tiny.pt")
    with pytest.raises(ValueError, match=r"is not a ViT-B/16: embed should be 512, is 16, .*Give the path alone"):
        load_clip("ViT-B/16", pretrained=tmp_path / "tiny.pt", **SAID)


def test_mini_is_loaded_by_name(tiny_clip, tmp_path, monkeypatch):
    from cliptune.clip.weights import mini

    weights = tmp_path / "mini.safetensors"
    monkeypatch.setattr(mini, "WEIGHTS", weights)
    config = CLIPConfig(
        embed=16,
        resolution=32,
        image_width=64,
        image_layers=2,
        patch=8,
        context=20,
        vocab=49408,
        text_width=128,
        text_layers=1,
    )
    tensors = openai_tensors(random_clip(config))
    ids = torch.tensor([320, 49406, 49407])
    packed = mini.pack(tensors | {"token_embedding.weight": tensors["token_embedding.weight"][ids]}, ids)
    save_file(packed, weights, metadata={"vocabulary_seed": "3"})
    clip = load_clip("mini")
    assert clip.config == config
    assert (clip.name, clip.origin["source"], clip.origin["sha256"]) == ("mini", "mini", sha256(weights))
    assert torch.equal(clip.image.proj, tensors["visual.proj"].half().float())
