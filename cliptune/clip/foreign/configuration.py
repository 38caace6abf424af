"""What open_clip's JSON files declare of a model, and whether CLIP's own towers are enough for it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cliptune.clip.foreign.libraries import package_folder
from cliptune.reading import content_of, json_value

CONFIG_FILE = "open_clip_config.json"
# Options that CLIP's own towers have no place for, with the value that stands for "not used".
_IMAGE: dict[str, Any] = {
    "timm_model_name": None,
    "attentional_pool": False,
    "no_ln_pre": False,
    "pool_type": "tok",
    "final_ln_after_pool": False,
    "pos_embed_type": "learnable",
    "ls_init_value": None,
    "norm_kwargs": None,
    "act_kwargs": None,
}
_TEXT: dict[str, Any] = {
    "hf_model_name": None,
    "hf_tokenizer_name": None,
    "no_causal_mask": False,
    "pool_type": "argmax",
    "proj_type": "linear",
    "proj_bias": False,
    "embed_cls": False,
    "ls_init_value": None,
    "norm_kwargs": None,
    "act_kwargs": None,
    "tokenizer_kwargs": None,
}


def needs_libraries(model: Mapping[str, Any]) -> bool:
    """Whether a model's configuration (`model_cfg`) asks for more than CLIP's own towers and tokenizer."""
    for part, options in (("vision_cfg", _IMAGE), ("text_cfg", _TEXT)):
        declared = model.get(part)
        if isinstance(declared, dict) and any((declared.get(name) or idle) != idle for name, idle in options.items()):
            return True
    return "multimodal_cfg" in model or model.get("init_logit_bias") is not None


def beside(folder: Path) -> dict[str, Any] | None:
    """The content of `open_clip_config.json` in a folder, if it is a model for `foreign_clip`; else None."""
    path = folder / CONFIG_FILE
    if not path.exists():
        return None
    try:
        found = json_value(content_of(path))
    except ValueError:
        return None  # told by the reader of files for CLIP's own towers
    if not isinstance(found, dict):
        return None
    whole = found if isinstance(found.get("model_cfg"), dict) else {"model_cfg": found}
    return whole if needs_libraries(whole["model_cfg"]) else None


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
