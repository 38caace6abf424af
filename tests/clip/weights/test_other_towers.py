"""`load_clip` of models that need the towers and tokenizers of other libraries."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import open_clip
import pytest
import torch
from safetensors.torch import save_file

from cliptune.clip.foreign import build
from cliptune.clip.foreign.configuration import architecture_config, needs_libraries
from cliptune.clip.weights.load import load_clip
from tests.clip.foreign.tiny import CONFIGS, KINDS, tiny_config, tiny_model
from tests.clip.foreign.vocabularies import sentencepiece

HALF = {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5], "resize_mode": "squash", "interpolation": "bicubic"}
SENTENCES = ["a photo of a cat.", "a picture of the dog"]


def saved(folder: Path, kind: str, drop: tuple[str, ...] = (), **more: object) -> Path:
    """A folder as open_clip's repositories on the hub: weights, configuration, tokenizer."""
    folder.mkdir(parents=True, exist_ok=True)
    config = tiny_config(kind)
    if kind == "siglip":
        config["text_cfg"] |= {"hf_tokenizer_name": "nobody/tiny", "tokenizer_kwargs": {"clean": "canonicalize"}}
        sentencepiece(folder)
    model = tiny_model(kind)
    tensors = {name: value.clone() for name, value in model.state_dict().items() if name not in drop}
    save_file(tensors, folder / "open_clip_model.safetensors")
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": HALF, **more}))
    return folder


@pytest.mark.parametrize("kind", KINDS)
def test_a_folder_of_open_clip_loads_with_its_numbers(kind, tmp_path):
    clip = load_clip(saved(tmp_path / "model", kind))
    model = tiny_model(kind)
    side = clip.image.resolution
    images = torch.randn(2, 3, side, side)
    torch.testing.assert_close(
        clip.encode_image(images[:, None])[:, 0], model.encode_image(images), rtol=1e-5, atol=1e-5
    )
    texts = clip.tokenize(SENTENCES)
    torch.testing.assert_close(clip.encode_text(texts)[0], model.encode_text(texts.ids), rtol=1e-5, atol=1e-5)
    assert clip.scale == pytest.approx(float(model.logit_scale.exp()))
    assert (clip.mean, clip.preprocessing.resize) == ((0.5, 0.5, 0.5), "squash")
    assert clip.origin["sha256"]
    assert (clip.logit_bias is None) == (kind != "siglip")


def test_bfloat16_and_another_way_of_preparing(tmp_path):
    clip = load_clip(saved(tmp_path, "eva"), dtype=torch.bfloat16, preprocessing={"resize": "shortest"})
    assert clip.dtype == torch.bfloat16
    assert clip.preprocessing.resize == "shortest"
    assert clip.encode_image(torch.rand(1, 1, 3, 32, 32).bfloat16()).dtype == torch.float32


def test_prompts_may_be_hidden_from_a_pooling(tmp_path):
    folder = saved(tmp_path / "siglip", "siglip")
    hidden = load_clip(folder, hide_prompts=True)
    assert hidden.image.hide_prompts
    assert hidden.origin["hide_prompts"] == "yes"
    assert not load_clip(folder).image.hide_prompts
    with pytest.raises(ValueError, match="hide_prompts is for image towers whose pooling attends to all rows"):
        load_clip(saved(tmp_path / "eva", "eva"), hide_prompts=True)
    with pytest.raises(ValueError, match="hide_prompts cannot be given for these weights"):
        load_clip("RN50", str(_own(tmp_path / "own")), hide_prompts=True, activation="gelu", head_width=8)


def _own(path: Path) -> Path:
    from tests.clip.weights.checkpoints import openai_tensors
    from tests.conftest import random_clip

    path.mkdir()
    save_file(openai_tensors(random_clip()), path / "model.safetensors")
    return path / "model.safetensors"


def test_hyphens_are_asked_of_tokenizers_that_delete_them(tmp_path):
    clip = load_clip(saved(tmp_path / "siglip", "siglip"), hyphens="space")
    assert clip.tokenizer.pieces("black-eyed susan")[0] == "black eyed susan"
    assert clip.origin["hyphens"] == "space"
    with pytest.raises(ValueError, match="hyphens is for tokenizers that delete punctuation, and OpenAI's keeps it"):
        load_clip(saved(tmp_path / "eva", "eva"), hyphens="space")


def test_what_is_missing_spare_or_misshapen_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"missing visual.trunk.cls_token; unexpected none"):
        load_clip(saved(tmp_path / "a", "eva", drop=("visual.trunk.cls_token",)))
    text = tuple(name for name in tiny_model("eva").state_dict() if name.startswith("text."))
    with pytest.raises(ValueError, match="It may be an image tower alone"):
        load_clip(saved(tmp_path / "b", "eva", drop=text))
    folder = saved(tmp_path / "c", "eva")
    config = tiny_config("eva")
    config["embed_dim"] = 12
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config}))
    with pytest.raises(ValueError, match=r"tensor .* must have shape"):
        load_clip(folder)
    config["vision_cfg"]["timm_model_name"] = "no_such_model"
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config}))
    with pytest.raises(ValueError, match=r"open_clip .* cannot build it from its configuration .*no_such_model"):
        load_clip(folder)


def test_a_bias_that_is_not_in_the_file_is_noted(tmp_path):
    clip = load_clip(saved(tmp_path, "siglip", drop=("logit_bias",)))
    assert float(clip.logit_bias) == 0
    assert any("holds no logit_bias, for which 0 was taken" in note for note in clip.notes)


def test_parts_that_only_speak_are_left_out_with_a_note(tmp_path):
    clip = load_clip(saved(tmp_path, "coca"))
    assert not any("left out" in note for note in clip.notes)  # the decoder is in the model, and in no tower here
    assert clip.encode_image(torch.rand(1, 1, 3, 32, 32)).shape == (1, 1, 16)


def test_another_release_of_a_library_is_found_out(tmp_path, monkeypatch):
    from timm.models.eva import EvaBlock

    folder = saved(tmp_path, "eva")
    whole = EvaBlock.forward
    monkeypatch.setattr(EvaBlock, "forward", lambda self, x, *a, **k: whole(self, x, *a, **k) * 1.01)
    with pytest.raises(
        ValueError, match=r"its image features differ by .* from those that the installed timm .* computes"
    ):
        load_clip(folder)


def test_a_missing_library_is_a_sentence_with_the_pip_line(tmp_path, monkeypatch):
    folder = saved(tmp_path, "eva")
    monkeypatch.setitem(sys.modules, "open_clip", None)
    with pytest.raises(ImportError, match=r"needs open_clip_torch.*pip install 'cliptune\[backbones\]'"):
        load_clip(folder)


def test_an_architecture_is_known_without_importing_the_library():
    assert needs_libraries(architecture_config("ViT-B-16-SigLIP2")["model_cfg"])
    assert architecture_config("ViT-B-16") is None  # CLIP's own towers are enough
    assert architecture_config("ViT-B/16") is None
    assert architecture_config("no such") is None


@pytest.fixture
def registered(monkeypatch, tmp_path) -> str:
    """A tiny architecture among those of open_clip."""
    folder = tmp_path / "model_configs"
    folder.mkdir()
    (folder / "tiny-eva.json").write_text(json.dumps(tiny_config("eva")))
    monkeypatch.setattr("cliptune.clip.foreign.configuration.package_folder", lambda name: tmp_path)
    found = {"hf_hub": "somebody/tiny-eva/", **{key: HALF[key] for key in HALF}}
    monkeypatch.setitem(open_clip.pretrained._PRETRAINED, "tiny-eva", {"made": found})
    return "tiny-eva"


def test_a_file_with_the_name_of_its_architecture(registered, tmp_path):
    path = tmp_path / "weights.pt"
    torch.save(tiny_model("eva").state_dict(), path)
    for clip in (load_clip(registered, path), load_clip(path, arch=registered)):
        assert clip.image.kind == "Eva of timm"
        assert clip.origin["arch"] == registered
        assert clip.mean == (0.5, 0.5, 0.5)
        assert any("prepared as open_clip does for all weights of tiny-eva" in note for note in clip.notes)
    with pytest.raises(ValueError, match="activation cannot be given for these weights, whose towers are"):
        load_clip(path, arch=registered, activation="gelu")


def test_a_tag_is_the_repository_that_open_clip_names(registered, monkeypatch, tmp_path):
    asked = []

    def on_the_hub(name: str, *more: object) -> object:
        asked.append(name)
        raise FileNotFoundError("no network in tests")

    monkeypatch.setattr("cliptune.clip.weights.locate.hub_file", on_the_hub)
    with pytest.raises(FileNotFoundError, match="no network"):
        load_clip(registered, "made")
    with pytest.raises(FileNotFoundError, match="no network"):
        load_clip(f"{registered}:made")
    assert asked == ["hf-hub:somebody/tiny-eva"] * 2
    with pytest.raises(ValueError, match=r"one of open_clip's tags of tiny-eva \(made\), got 'other'"):
        load_clip(registered, "other")
    monkeypatch.setitem(open_clip.pretrained._PRETRAINED, "tiny-eva", {"made": {"url": "https://example.org/a.pt"}})
    with pytest.raises(ValueError, match=r"lie at https://example.org/a.pt, without their configuration"):
        load_clip(registered, "made")
    with pytest.raises(ValueError, match="is an architecture of open_clip: say which weights"):
        load_clip(registered)


def test_a_model_that_open_clip_could_not_build_is_left_to_the_other_reader():
    assert not needs_libraries({"vision_cfg": {"timm_model_name": "x"}})
    assert not needs_libraries({"embed_dim": 4, "vision_cfg": {}, "text_cfg": {"tokenizer_kwargs": {"clean": "lower"}}})
    assert all(needs_libraries(config) for config in CONFIGS.values())


def test_the_check_of_parity_sees_texts_too(monkeypatch):
    model = tiny_model("siglip")
    clip = build.behind_ports(model, tiny_config("siglip"), "siglip", None)
    assert max(build.check_parity(model, clip, "siglip")) < 1e-5
    clip.text.projection_bias.data = clip.text.projection_bias + 1  # apart from the model's, which it shares
    with pytest.raises(ValueError, match="its text features differ by .* that the installed open_clip"):
        build.check_parity(model, clip, "siglip")


def test_the_libraries_are_not_imported_before_they_are_needed():
    code = (
        "import sys, cliptune; cliptune.load_clip('mini').tokenize(['a cat']); "
        "print(sorted({'timm', 'open_clip', 'transformers'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
