"""What the JSON files beside weights declare and tensors cannot tell: activation, heads, normalisation."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cliptune.clip.tokenizer import VOCAB_SIZE

HUGGING_FACE_CONFIG = "config.json"
HUGGING_FACE_IMAGES = "preprocessor_config.json"
OPEN_CLIP_CONFIG = "open_clip_config.json"

Statistics = tuple[float, float, float]

# Options of open_clip that change no computation here, or that the tensors tell.
_OPEN_CLIP_HARMLESS = {
    "image": {
        "image_size",
        "layers",
        "width",
        "head_width",
        "patch_size",
        "mlp_ratio",
        "patch_dropout",
        "output_tokens",
    },
    "text": {
        "context_length",
        "vocab_size",
        "width",
        "heads",
        "layers",
        "mlp_ratio",
        "output_tokens",
        "hf_tokenizer_name",
    },
}
# Options that may be written out with the value that CLIP has anyway.
_OPEN_CLIP_AS_CLIP = {
    "pool_type": ("tok", "argmax"),
    "pos_embed_type": ("learnable",),
    "proj_type": ("linear",),
}
_LAYER_NORM_EPS = 1e-5


@dataclass(frozen=True)
class Declared:
    """None where nothing was declared.

    Args:
        activation: "quick_gelu" or "gelu".
        text_heads, image_heads: heads per block.
        image_head_width: width of an image head.
        mean, std: per channel, for images in [0, 1].
        usual: what the files leave out, where their library's own value stands for it.
    """

    activation: str | None = None
    text_heads: int | None = None
    image_heads: int | None = None
    image_head_width: int | None = None
    mean: Statistics | None = None
    std: Statistics | None = None
    usual: tuple[str, ...] = ()


def read_declared(folder: Path, layout: str) -> Declared:
    """Read the configuration files in `folder` that go with a checkpoint of this layout.

    Raises: ValueError with a sentence if a file is broken or declares what the towers here do not compute.
    """
    if layout == "hugging_face":
        return _hugging_face(folder)
    if (folder / OPEN_CLIP_CONFIG).exists():
        return _open_clip(folder / OPEN_CLIP_CONFIG)
    return Declared()


def _hugging_face(folder: Path) -> Declared:
    path = folder / HUGGING_FACE_CONFIG
    if not path.exists():
        return Declared()
    config = _read(path)
    # What equals the default of transformers' CLIPConfig is often left out of the file.
    text, image = config.get("text_config") or {}, config.get("vision_config") or {}
    activations = {tower.get("hidden_act", "quick_gelu") for tower in (text, image)}
    if len(activations) > 1 or not activations <= {"quick_gelu", "gelu"}:
        raise ValueError(
            f"{path}: hidden_act must be quick_gelu or gelu, the same in both towers, got "
            f"{' and '.join(sorted(activations))}."
        )
    eps = {tower.get("layer_norm_eps", _LAYER_NORM_EPS) for tower in (text, image)}
    if eps != {_LAYER_NORM_EPS}:
        raise ValueError(f"{path}: layer_norm_eps must be {_LAYER_NORM_EPS} as in CLIP, got {sorted(eps)}.")
    # 2 is what early files say; transformers then takes the largest id, which is the same token.
    end = text.get("eos_token_id", VOCAB_SIZE - 1)
    if end not in (2, VOCAB_SIZE - 1):
        raise ValueError(
            f"{path}: the end-of-text token must be {VOCAB_SIZE - 1} as in OpenAI's vocabulary, got {end}."
        )
    images_path = folder / HUGGING_FACE_IMAGES
    images = _read(images_path) if images_path.exists() else {}
    return Declared(
        activation=activations.pop(),
        text_heads=text.get("num_attention_heads", 8),
        image_heads=image.get("num_attention_heads", 12),
        mean=_statistics(images.get("image_mean"), images_path),
        std=_statistics(images.get("image_std"), images_path),
        usual=tuple(
            f"{tower}.{option}"
            for tower, of in (("text_config", text), ("vision_config", image))
            for option in ("hidden_act", "num_attention_heads")
            if option not in of
        ),
    )


def _open_clip(path: Path) -> Declared:
    found = _read(path)
    model, images = found.get("model_cfg", found), found.get("preprocess_cfg") or {}
    towers = {"image": model.get("vision_cfg") or {}, "text": model.get("text_cfg") or {}}
    for tower, config in towers.items():
        for option, value in config.items():
            as_clip = not value or value in _OPEN_CLIP_AS_CLIP.get(option, ())
            if option not in _OPEN_CLIP_HARMLESS[tower] and not as_clip:
                raise ValueError(
                    f"{path}: the {tower} tower has {option} = {value!r}, which CLIP's towers do not have. "
                    "Only OpenAI's ViT, ResNet and text tower can be read."
                )
    return Declared(
        activation="quick_gelu" if model.get("quick_gelu") else "gelu",
        text_heads=towers["text"].get("heads", 8),
        image_head_width=towers["image"].get("head_width", 64),
        mean=_statistics(images.get("mean"), path),
        std=_statistics(images.get("std"), path),
        usual=tuple(
            option
            for option, stated in (
                ("quick_gelu", "quick_gelu" in model),
                ("text_cfg.heads", "heads" in towers["text"]),
                ("vision_cfg.head_width", "head_width" in towers["image"]),
            )
            if not stated
        ),
    )


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not valid JSON ({error}). Download it again.") from error
    if not isinstance(found, dict):
        raise ValueError(f"{path} must hold a JSON object, got a {type(found).__name__}.")
    return found


def _statistics(value: Any, path: Path) -> Statistics | None:
    if value is None:
        return None
    if not isinstance(value, list) or len(value) != 3:
        raise ValueError(f"{path}: mean and std must be three numbers, one per channel, got {value!r}.")
    red, green, blue = (float(v) for v in value)
    return red, green, blue
