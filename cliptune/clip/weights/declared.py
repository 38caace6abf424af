"""What the JSON files beside weights declare and tensors cannot tell: activation, heads, normalisation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from cliptune.clip.tokenizer import VOCAB_SIZE
from cliptune.clip.weights.declared_pictures import Pictures, hugging_face_pictures, open_clip_pictures, square
from cliptune.clip.weights.json_parts import number, part, read_object
from cliptune.clip.weights.open_clip_options import check_options
from cliptune.reading import shown

HUGGING_FACE_CONFIG = "config.json"
HUGGING_FACE_IMAGES = "preprocessor_config.json"
# Where transformers 5 writes the same, as "image_processor".
HUGGING_FACE_PROCESSOR = "processor_config.json"
OPEN_CLIP_CONFIG = "open_clip_config.json"

_LAYER_NORM_EPS = 1e-5


@dataclass(frozen=True)
class Declared:
    """None where nothing was declared.

    Args:
        activation: "quick_gelu" or "gelu".
        text_heads, image_heads: heads per block.
        image_head_width: width of an image head.
        pictures: how they are preprocessed.
        found: whether there is a configuration at all.
        usual: what the files leave out, where their library's own value stands for it.
    """

    activation: str | None = None
    text_heads: int | None = None
    image_heads: int | None = None
    image_head_width: int | None = None
    pictures: Pictures = field(default_factory=Pictures)
    found: bool = True
    usual: tuple[str, ...] = ()


def read_declared(folder: Path, layout: str) -> Declared:
    """Read the configuration files in `folder` that go with a checkpoint of this layout.

    Raises: ValueError with a sentence if a file is broken or declares what the towers here do not compute.
    """
    if layout == "hugging_face":
        return _hugging_face(folder)
    if (folder / OPEN_CLIP_CONFIG).exists():
        return _open_clip(folder / OPEN_CLIP_CONFIG)
    return Declared(found=False)


def _hugging_face(folder: Path) -> Declared:
    path = folder / HUGGING_FACE_CONFIG
    if not path.exists():
        return Declared(found=False)
    config = read_object(path)
    kind = config.get("model_type", "clip")
    if kind != "clip":
        raise ValueError(
            f"{path} is of a model of the kind {shown(repr(kind))}; of transformers' models only clip loads."
        )
    # What equals the default of transformers' CLIPConfig is often left out of the file.
    text, image = part(config, "text_config", path), part(config, "vision_config", path)
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
    return Declared(
        activation=activations[0],
        text_heads=number(text, "num_attention_heads", 8, path),
        image_heads=number(image, "num_attention_heads", 12, path),
        pictures=read_processor(folder),
        usual=tuple(
            f"{tower}.{option}"
            for tower, of in (("text_config", text), ("vision_config", image))
            for option in ("hidden_act", "num_attention_heads")
            if option not in of
        ),
    )


def read_processor(folder: Path) -> Pictures:
    """What the image processor of transformers in a folder declares; empty if there is none."""
    path = folder / HUGGING_FACE_IMAGES
    if path.exists():
        return hugging_face_pictures(read_object(path), path)
    path = folder / HUGGING_FACE_PROCESSOR
    return (
        hugging_face_pictures(part(read_object(path), "image_processor", path), path) if path.exists() else Pictures()
    )


def _open_clip(path: Path) -> Declared:
    found = read_object(path)
    model = part(found, "model_cfg", path) if "model_cfg" in found else found
    towers = {"image": part(model, "vision_cfg", path), "text": part(model, "text_cfg", path)}
    check_options(model, path)
    return Declared(
        activation="quick_gelu" if model.get("quick_gelu") else "gelu",
        text_heads=number(towers["text"], "heads", 8, path),
        image_head_width=number(towers["image"], "head_width", 64, path),
        pictures=_pictures(found, towers["image"], path),
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


def _pictures(found: Mapping[str, Any], image: Mapping[str, Any], path: Path) -> Pictures:
    """The size is the tower's, whatever `preprocess_cfg` says, as in open_clip."""
    pictures = open_clip_pictures(part(found, "preprocess_cfg", path), path)
    size = square(image.get("image_size"), "vision_cfg.image_size", path)
    return pictures if size is None else replace(pictures, size=size)
