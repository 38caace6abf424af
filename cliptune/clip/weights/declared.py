"""What the JSON files beside weights declare and tensors cannot tell: activation, heads, normalisation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cliptune.clip.tokenizer import VOCAB_SIZE
from cliptune.reading import content_of, json_value, shown

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
# Far above any number of heads, their widths, and any statistic of pixels in [0, 1].
_MOST = 1 << 20


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
    text, image = _part(config, "text_config", path), _part(config, "vision_config", path)
    activations = [tower.get("hidden_act", "quick_gelu") for tower in (text, image)]
    if activations not in (["quick_gelu"] * 2, ["gelu"] * 2):
        raise ValueError(
            f"{path}: hidden_act must be quick_gelu or gelu, the same in both towers, got "
            f"{' and '.join(sorted({shown(str(a)) for a in activations}))}."
        )
    eps = [tower.get("layer_norm_eps", _LAYER_NORM_EPS) for tower in (text, image)]
    if eps != [_LAYER_NORM_EPS] * 2:
        raise ValueError(f"{path}: layer_norm_eps must be {_LAYER_NORM_EPS} as in CLIP, got {shown(str(eps))}.")
    # 2 is what early files say; transformers then takes the largest id, which is the same token.
    end = text.get("eos_token_id", VOCAB_SIZE - 1)
    if end not in (2, VOCAB_SIZE - 1):
        raise ValueError(
            f"{path}: the end-of-text token must be {VOCAB_SIZE - 1} as in OpenAI's vocabulary, got {shown(str(end))}."
        )
    images_path = folder / HUGGING_FACE_IMAGES
    images = _read(images_path) if images_path.exists() else {}
    return Declared(
        activation=activations[0],
        text_heads=_number(text, "num_attention_heads", 8, path),
        image_heads=_number(image, "num_attention_heads", 12, path),
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
    model = _part(found, "model_cfg", path) if "model_cfg" in found else found
    images = _part(found, "preprocess_cfg", path)
    towers = {"image": _part(model, "vision_cfg", path), "text": _part(model, "text_cfg", path)}
    for tower, config in towers.items():
        for option, value in config.items():
            as_clip = not value or value in _OPEN_CLIP_AS_CLIP.get(option, ())
            if option not in _OPEN_CLIP_HARMLESS[tower] and not as_clip:
                raise ValueError(
                    f"{path}: the {tower} tower has {shown(option)} = {shown(repr(value))}, which CLIP's towers do not "
                    "have. "
                    "Only OpenAI's ViT, ResNet and text tower can be read."
                )
    return Declared(
        activation="quick_gelu" if model.get("quick_gelu") else "gelu",
        text_heads=_number(towers["text"], "heads", 8, path),
        image_head_width=_number(towers["image"], "head_width", 64, path),
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
        found = json_value(content_of(path))
    except ValueError as error:
        raise ValueError(f"{path} is not valid JSON ({error}). Download it again.") from error
    if not isinstance(found, dict):
        raise ValueError(f"{path} must hold a JSON object, got a {type(found).__name__}.")
    return found


def _part(config: Mapping[str, Any], name: str, path: Path) -> dict[str, Any]:
    """An object within the object; empty if it is left out or null."""
    part = config.get(name)
    if part is not None and not isinstance(part, dict):
        raise ValueError(f"{path}: {name} must be an object, got {shown(repr(part))}. Download it again.")
    return part or {}


def _number(config: Mapping[str, Any], name: str, usual: int, path: Path) -> int:
    """A count from 1."""
    value = config.get(name, usual)
    if type(value) is not int or not 1 <= value <= _MOST:
        raise ValueError(f"{path}: {name} must be a whole number from 1, got {shown(repr(value))}. Download it again.")
    return value


def _statistics(value: Any, path: Path) -> Statistics | None:
    if value is None:
        return None
    numbers = value if isinstance(value, list) else []
    if len(numbers) != 3 or not all(type(number) in (int, float) and abs(number) < _MOST for number in numbers):
        raise ValueError(
            f"{path}: mean and std must be three numbers, one per channel, got {shown(repr(value))}. Download it again."
        )
    red, green, blue = (float(number) for number in numbers)
    return red, green, blue
