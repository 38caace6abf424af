"""A CLIP's weights under the names of other libraries, bit for bit, with the configuration that those read."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cliptune.clip.model import CLIPConfig, our_key
from cliptune.clip.tokenizer import VOCAB_SIZE
from cliptune.clip.weights.declared import HUGGING_FACE_CONFIG, HUGGING_FACE_IMAGES, OPEN_CLIP_CONFIG
from cliptune.clip.weights.key_layouts import to_hugging_face, to_openai_layout
from cliptune.clip.weights.load import opened
from cliptune.clip.weights.locate import locate
from cliptune.clip.weights.mini import mini_state_dict
from cliptune.clip.weights.relatives import without_company
from cliptune.files import atomic_write_bytes
from cliptune.preprocessing import Preprocessing

LAYOUTS = ("openai", "open_clip", "hugging_face", "cliptune")
_FILES = {
    "openai": "model.pt",
    "open_clip": "open_clip_model.safetensors",
    "hugging_face": "model.safetensors",
    "cliptune": "model.safetensors",
}


def stored_tensors(name: str, pretrained: str | None = None, trust: bool = False) -> dict[str, Tensor]:
    """The tensors of weights that `load_clip` opens, under OpenAI's names, in the floating types of their file."""
    if name == "mini":
        return mini_state_dict()
    notes: list[str] = []
    found, _ = opened(locate(name, pretrained, None, trust), notes)
    return to_openai_layout(without_company(found, notes))[0]


def write_backbone(
    folder: Path, tensors: Mapping[str, Tensor], config: CLIPConfig, how: Preprocessing, layout: str
) -> list[Path]:
    """Weights and configuration in a folder, as `load_clip` and the library of that layout read them.

    Args:
        folder: made if it is not there.
        tensors: in OpenAI's layout, in any floating types, which are kept.
        config: their sizes and activation. how: their preprocessing.
        layout: "openai" (a state dict of torch), "open_clip", "hugging_face" (transformers' CLIPModel) or "cliptune".
    Returns: the files, the weights last.
    Raises: ValueError with a sentence if the layout has no place for such a CLIP.
    """
    _check(config, how, layout)
    files = _configurations(config, how, layout)
    for name, content in files.items():
        atomic_write_bytes(folder / name, (json.dumps(content, indent=2) + "\n").encode())
    weights = folder / _FILES[layout]
    atomic_write_bytes(weights, _content(_named[layout](tensors), layout))
    return [*(folder / name for name in files), weights]


def _check(config: CLIPConfig, how: Preprocessing, layout: str) -> None:
    if layout not in LAYOUTS:
        raise ValueError(f"convert: a layout must be one of {', '.join(LAYOUTS)}, got {layout!r}.")
    if layout == "openai" and config.activation != "quick_gelu":
        raise ValueError(
            f"convert: OpenAI's code has QuickGELU alone, and this CLIP has {config.activation}. Use open_clip."
        )
    if layout == "openai" and (config.head_width != 64 or (config.image_head_width or 64) != 64):
        raise ValueError("convert: OpenAI's code has heads of 64 alone, and this CLIP others. Use open_clip.")
    if layout == "hugging_face" and not config.patch:
        raise ValueError("convert: transformers' CLIPModel has no ResNet. Use open_clip, openai or cliptune.")
    if layout == "hugging_face" and (how.resize == "longest" or how.interpolation == "random"):
        raise ValueError(
            f"convert: transformers' image processor does not know {how.told(config.resolution)}. Use open_clip."
        )
    if layout != "hugging_face" and how.oversize != 1:
        raise ValueError(
            f"convert: open_clip's configuration does not know {how.told(config.resolution)}. Use hugging_face."
        )


def _content(tensors: dict[str, Tensor], layout: str) -> bytes:
    from safetensors.torch import save

    if layout != "openai":
        return save({name: value.contiguous() for name, value in tensors.items()}, metadata={"format": "pt"})
    buffer = io.BytesIO()
    torch.save(tensors, buffer)
    return buffer.getvalue()


def _as_they_are(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return dict(tensors)


def _ours(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {our_key(name): value for name, value in tensors.items()}


_named: Mapping[str, Callable[[Mapping[str, Tensor]], dict[str, Tensor]]] = {
    "openai": _as_they_are,
    "open_clip": _as_they_are,
    "hugging_face": to_hugging_face,
    "cliptune": _ours,
}


def _configurations(config: CLIPConfig, how: Preprocessing, layout: str) -> dict[str, Any]:
    if layout == "hugging_face":
        return {HUGGING_FACE_CONFIG: _hugging_face(config), HUGGING_FACE_IMAGES: _processor(config, how)}
    return {OPEN_CLIP_CONFIG: _open_clip(config, how)}


def _open_clip(config: CLIPConfig, how: Preprocessing) -> dict[str, Any]:
    layers = config.image_layers
    image: dict[str, Any] = {
        "image_size": config.resolution,
        "layers": layers if isinstance(layers, int) else list(layers),
        "width": config.image_width,
        "head_width": config.image_head_width or config.head_width,
        "patch_size": config.patch or None,
    }
    text: dict[str, Any] = {
        "context_length": config.context,
        "vocab_size": config.vocab,
        "width": config.text_width,
        "heads": config.text_heads,
        "layers": config.text_layers,
    }
    # open_clip cuts the product off, so that the exact quotient could come out one too small.
    if config.image_mlp:
        image["mlp_ratio"] = (config.image_mlp + 0.5) / config.image_width
    if config.text_mlp:
        text["mlp_ratio"] = (config.text_mlp + 0.5) / config.text_width
    return {
        "model_cfg": {
            "embed_dim": config.embed,
            "quick_gelu": config.activation == "quick_gelu",
            "vision_cfg": image,
            "text_cfg": text,
        },
        "preprocess_cfg": {
            "size": config.resolution,
            "mean": list(how.mean),
            "std": list(how.std),
            "interpolation": how.interpolation,
            "resize_mode": how.resize,
            "fill_color": how.fill,
        },
    }


def _hugging_face(config: CLIPConfig) -> dict[str, Any]:
    shared = {"hidden_act": config.activation, "layer_norm_eps": 1e-5, "projection_dim": config.embed}
    return {
        "architectures": ["CLIPModel"],
        "model_type": "clip",
        "projection_dim": config.embed,
        "text_config": {
            **shared,
            "model_type": "clip_text_model",
            "hidden_size": config.text_width,
            "intermediate_size": config.text_mlp or 4 * config.text_width,
            "num_attention_heads": config.text_heads,
            "num_hidden_layers": config.text_layers,
            "max_position_embeddings": config.context,
            "vocab_size": config.vocab,
            "bos_token_id": VOCAB_SIZE - 2,
            "eos_token_id": VOCAB_SIZE - 1,
        },
        "vision_config": {
            **shared,
            "model_type": "clip_vision_model",
            "hidden_size": config.image_width,
            "intermediate_size": config.image_mlp or 4 * config.image_width,
            "num_attention_heads": config.image_heads,
            "num_hidden_layers": config.image_layers,
            "image_size": config.resolution,
            "patch_size": config.patch,
        },
    }


def _processor(config: CLIPConfig, how: Preprocessing) -> dict[str, Any]:
    side, square = how.side(config.resolution), {"height": config.resolution, "width": config.resolution}
    return {
        "image_processor_type": "CLIPImageProcessor",
        "do_convert_rgb": True,
        "do_resize": True,
        "size": {"shortest_edge": side} if how.resize == "shortest" else {"height": side, "width": side},
        "resample": {"bilinear": 2}.get(how.interpolation, 3),
        "do_center_crop": True,
        "crop_size": square,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(how.mean),
        "image_std": list(how.std),
    }
