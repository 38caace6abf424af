"""The same random weights in other libraries' CLIPs and in ours give the same features, if installed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from cliptune.clip import CLIP
from cliptune.clip.tokenizer import default_tokenizer
from cliptune.clip.weights.load import load_clip

TEXTS = ["a photo of a golden retriever.", "forest", "a Boeing 737-800, a type of aircraft."]


def shaken(model: torch.nn.Module) -> torch.nn.Module:
    """The model with random biases, norms and BatchNorm statistics, which start as zeros and ones."""
    generator = torch.Generator().manual_seed(3)
    for name, value in model.state_dict().items():
        if value.is_floating_point() and value.ndim:
            noise = torch.rand(value.shape, generator=generator) - 0.5
            value.add_(noise if value.ndim == 1 and "var" not in name else 0.1 * noise)
    return model.eval()


def features(clip: CLIP, images: Tensor) -> tuple[Tensor, Tensor]:
    with torch.no_grad():
        return clip.encode_image(images[:, None])[:, 0], clip.encode_text(clip.tokenize(TEXTS))[0]


def assert_close(found: tuple[Tensor, Tensor], expected: tuple[Tensor, Tensor]) -> None:
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.shape == theirs.shape
        assert (ours - theirs).abs().max() <= 1e-5 * theirs.abs().max()


@pytest.fixture
def images() -> Tensor:
    return torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("activation", ["quick_gelu", "gelu"])
@pytest.mark.parametrize("end", [2, 49407])
@pytest.mark.parametrize("safe", [True, False], ids=["safetensors", "bin"])
def test_hugging_face_clip(tmp_path, images, activation, end, safe):
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    text = {"hidden_size": 48, "intermediate_size": 192, "num_hidden_layers": 3, "num_attention_heads": 6}
    image = {"hidden_size": 80, "intermediate_size": 320, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = transformers.CLIPConfig(
        text_config=text | {"hidden_act": activation, "eos_token_id": end, "projection_dim": 24},
        vision_config=image | {"hidden_act": activation, "image_size": 32, "patch_size": 8, "projection_dim": 24},
        projection_dim=24,
    )
    model = shaken(transformers.CLIPModel(config))
    model.save_pretrained(tmp_path)
    if not safe:
        torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
        (tmp_path / "model.safetensors").unlink()
    clip = load_clip(tmp_path)
    assert clip.config.activation == activation
    with torch.no_grad():
        ids = default_tokenizer()(TEXTS)
        seen = model.visual_projection(model.vision_model(images).pooler_output)
        read = model.text_projection(model.text_model(ids).pooler_output)
    assert_close(features(clip, images), (seen, read))


def open_clip_config(quick: bool, resnet: bool) -> dict:
    image = {"image_size": 32, "layers": 2, "width": 80, "patch_size": 8, "head_width": 20}
    if resnet:
        image = {"image_size": 32, "layers": [1, 2, 1, 1], "width": 8, "patch_size": None, "head_width": 32}
    text = {"context_length": 77, "vocab_size": 49408, "width": 48, "heads": 6, "layers": 3}
    return {"embed_dim": 24, "quick_gelu": quick, "vision_cfg": image, "text_cfg": text}


@pytest.mark.parametrize("quick", [True, False], ids=["quick_gelu", "gelu"])
@pytest.mark.parametrize("resnet", [True, False], ids=["resnet", "vit"])
@pytest.mark.parametrize("custom", [True, False], ids=["custom_text", "plain"])
def test_open_clip(tmp_path, images, quick, resnet, custom):
    open_clip = pytest.importorskip("open_clip")
    torch.manual_seed(0)
    config = open_clip_config(quick, resnet)
    model = shaken((open_clip.CustomTextCLIP if custom else open_clip.CLIP)(**config))
    torch.save({"epoch": 1, "state_dict": model.state_dict()}, tmp_path / "open_clip_pytorch_model.bin")
    (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": config}))
    clip = load_clip(tmp_path)
    with torch.no_grad():
        expected = model.encode_image(images), model.encode_text(default_tokenizer()(TEXTS))
    assert_close(features(clip, images), expected)


@pytest.mark.parametrize("name", ["ViT-g-14", "ViT-bigG-14", "ViT-e-14"])
@pytest.mark.parametrize("lone", [False, True], ids=["configuration", "lone"])
def test_open_clips_wide_towers_have_their_own_mlps_and_heads(tmp_path, images, name, lone):
    open_clip = pytest.importorskip("open_clip")
    torch.manual_seed(0)
    config = open_clip.get_model_config(name)
    config["vision_cfg"] |= {"layers": 2, "image_size": 56}
    config["text_cfg"]["layers"] = 1
    model = shaken(open_clip.CLIP(**config))
    torch.save(model.state_dict(), tmp_path / "open_clip_pytorch_model.bin")
    if lone:
        clip = load_clip(tmp_path / "open_clip_pytorch_model.bin", activation="gelu")
    else:
        (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": config}))
        clip = load_clip(tmp_path)
    pictures = torch.nn.functional.interpolate(images, size=(56, 56))
    with torch.no_grad():
        expected = model.encode_image(pictures), model.encode_text(default_tokenizer()(TEXTS))
    assert_close(features(clip, pictures), expected)


def test_open_clip_sizes_and_tokenizer_agree():
    open_clip = pytest.importorskip("open_clip")
    from cliptune.clip.weights.openai import CHECKSUMS, OPENAI_CONFIGS, archive_file

    assert torch.equal(default_tokenizer()(TEXTS), open_clip.get_tokenizer("RN50")(TEXTS))
    for name, ours in OPENAI_CONFIGS.items():
        their_name = Path(archive_file(name)).stem.removesuffix("px")
        theirs = open_clip.get_model_config(their_name)
        image, text, layers = theirs["vision_cfg"], theirs["text_cfg"], ours.image_layers
        assert (ours.embed, ours.resolution) == (theirs["embed_dim"], image["image_size"])
        assert (ours.image_width, ours.patch or None) == (image["width"], image["patch_size"])
        assert (layers if isinstance(layers, int) else list(layers)) == image["layers"]
        assert (ours.text_width, ours.text_heads, ours.text_layers) == (
            text["width"],
            text["heads"],
            text["layers"],
        )
        assert CHECKSUMS[name] in open_clip.get_pretrained_cfg(their_name, "openai")["url"]
