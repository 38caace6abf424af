"""What open_clip's JSON files declare of a model, and whether CLIP's own towers are enough for it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from cliptune.clip.foreign.libraries import package_folder

CONFIG_FILE = "open_clip_config.json"
# Options that those of the libraries have and CLIP's own towers do not, with the values that do not use them.
_UNUSED: dict[str, dict[str, tuple[Any, ...]]] = {
    "vision_cfg": {
        "timm_model_name": (),
        "attentional_pool": (),
        "no_ln_pre": (),
        "pool_type": ("tok",),
        "pos_embed_type": ("learnable",),
        "ls_init_value": (),
        "norm_kwargs": ({"eps": 1e-5},),
        "act_kwargs": (),
    },
    "text_cfg": {
        "hf_model_name": (),
        "hf_tokenizer_name": (),
        "tokenizer_kwargs": ({"clean": "lower"},),
        "no_causal_mask": (),
        "pool_type": ("argmax",),
        "proj_type": ("linear",),
        "proj_bias": (),
        "embed_cls": (),
        "norm_kwargs": ({"eps": 1e-5},),
        "act_kwargs": (),
    },
}
# `model_type` in transformers' config.json of CLIPs whose towers are not CLIP's own.
TRANSFORMERS_KINDS = ("siglip", "siglip2", "chinese_clip", "altclip")
# Any of these beside the weights makes their folder one of a tokenizer.
TOKENIZER_FILES = ("tokenizer.json", "vocab.txt", "spiece.model", "tokenizer.model", "sentencepiece.bpe.model")
# OpenAI's own vocabulary goes by the names of its models.
_OPENAI = "openai/clip-"


def needs_libraries(model: Mapping[str, Any]) -> bool:
    """Whether a model's configuration (`model_cfg`) asks for more than CLIP's own towers and tokenizer."""
    whole = "embed_dim" in model and all(isinstance(model.get(part), dict) for part in _UNUSED)
    if not whole:
        return False  # which open_clip could not build either, and the reader for CLIP's own towers tells why
    return bool(model.get("multimodal_cfg")) or any(
        _used(model[part].get(name), idle) for part, options in _UNUSED.items() for name, idle in options.items()
    )


def _used(value: Any, idle: tuple[Any, ...]) -> bool:
    return bool(value) and value not in idle and not (isinstance(value, str) and value.startswith(_OPENAI))


def architecture_config(name: str) -> dict[str, Any] | None:
    """What the installed open_clip declares of an architecture that needs it, as in a configuration file; else None.

    Its JSON files are read; the library itself is not imported.
    """
    folder = package_folder("open_clip")
    path = None if folder is None else folder / "model_configs" / f"{name}.json"
    if path is None or "/" in name or not path.is_file():
        return None
    model = json.loads(path.read_text(encoding="utf-8"))
    return {"model_cfg": model} if needs_libraries(model) else None
