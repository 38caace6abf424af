"""LoRA adapters of PEFT on transformers' CLIPModel, merged into the weights that they were trained on."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from cliptune.clip.weights.checkpoint import read_tensors, sha256
from cliptune.clip.weights.json_parts import part, read_object
from cliptune.reading import shown

CONFIG = "adapter_config.json"
_WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")
_PREFIX = "base_model.model."
_MERGE = "Merge it where it was made: model.merge_and_unload().save_pretrained(FOLDER), and give that folder."
# Options of LoraConfig that change what a merged weight is, in a way that is not computed here.
_REFUSED = ("use_dora", "lora_bias", "fan_in_fan_out", "alora_invocation_tokens", "use_qalora")


@dataclass(frozen=True)
class Lora:
    """An adapter in a folder.

    Args:
        folder: that holds it. base: path, or organisation/name on the hub, of the CLIP that it was trained on.
        config: `adapter_config.json`.
    """

    folder: Path
    base: str
    config: Mapping[str, Any]

    @property
    def weights(self) -> Path:
        return next(path for name in _WEIGHTS if (path := self.folder / name).is_file())

    def sha256(self, base: str) -> str:
        """Of base and adapter together."""
        from hashlib import sha256 as digest

        return digest(f"{base} {sha256(self.weights)}".encode()).hexdigest()


def lora_in(folder: Path) -> Lora | None:
    """The adapter of PEFT in a folder; None if there is none. Raises: ValueError for one that is not merged here."""
    if not (folder / CONFIG).is_file() or not any((folder / name).is_file() for name in _WEIGHTS):
        return None
    path = folder / CONFIG
    config = read_object(path)
    if "peft_type" not in config:
        return None
    if config["peft_type"] != "LORA":
        kind = shown(repr(config["peft_type"]))
        raise ValueError(f"load_clip: {path} is of PEFT's kind {kind}; only LORA is merged here. {_MERGE}")
    option = next((name for name in _REFUSED if config.get(name)), None)
    if option is not None:
        value = shown(repr(config[option]))
        raise ValueError(f"load_clip: {path} has {option} = {value}, which is not merged here. {_MERGE}")
    base = config.get("base_model_name_or_path")
    if not isinstance(base, str) or not base:
        raise ValueError(f"load_clip: {path} names no base_model_name_or_path, so its CLIP is not known. {_MERGE}")
    return Lora(folder, base, config)


def merge(base: Mapping[str, Tensor], lora: Lora, notes: list[str]) -> dict[str, Tensor]:
    """W + s B A for every weight that the adapter changes, s = α / r, or α / √r with rslora (arXiv:2312.03732).

    Args:
        base: tensors under transformers' names, in any floating types, which are kept.
        notes: what was merged is added here, as a phrase.
    Raises: ValueError with a sentence if the adapter does not fit.
    """
    found = {name.removeprefix(_PREFIX): value for name, value in read_tensors(lora.weights).items()}
    merged, changed = dict(base), 0
    for name, value in found.items():
        if name.endswith(".lora_A.weight"):
            module = name.removesuffix(".lora_A.weight")
            merged[f"{module}.weight"] = _sum(base, module, value, found.get(f"{module}.lora_B.weight"), lora)
            changed += 1
        elif not name.endswith(".lora_B.weight"):
            name = name.replace(".base_layer.", ".")  # the bias of a Linear that LoRA wraps
            if name not in base or base[name].shape != value.shape:
                raise ValueError(
                    f"{lora.weights}: tensor {shown(name)!r} is no LoRA of a Linear and no tensor of the CLIP. {_MERGE}"
                )
            merged[name] = value.to(base[name].dtype)  # a bias or module that was trained whole
            changed += 1
    notes.append(f"the LoRA adapter of {lora.folder.name} was merged into {changed} tensors of {lora.base}")
    return merged


def _sum(base: Mapping[str, Tensor], module: str, a: Tensor, b: Tensor | None, lora: Lora) -> Tensor:
    weight = base.get(f"{module}.weight")
    fits = weight is not None and b is not None and weight.ndim == a.ndim == b.ndim == 2
    if not fits or weight is None or b is None or weight.shape != (b.shape[0], a.shape[1]) or len(a) != b.shape[1]:
        raise ValueError(
            f"{lora.weights}: the LoRA of {shown(module)!r} does not fit a weight of {lora.base}. Was it trained on "
            "another CLIP?"
        )
    delta = _scale(module, len(a), lora) * (b.float() @ a.float())
    return (weight.float() + delta).to(weight.dtype)


def _scale(module: str, rank: int, lora: Lora) -> float:
    path = lora.folder / CONFIG
    alpha = lora.config.get("lora_alpha", 8)
    for pattern, value in part(lora.config, "alpha_pattern", path).items():
        if re.match(rf"(.*\.)?({re.escape(pattern)})$", module):
            alpha = value
    if type(alpha) not in (int, float):
        raise ValueError(f"{path}: lora_alpha must be a number, got {shown(repr(alpha))}.")
    return float(alpha) / (math.sqrt(rank) if lora.config.get("use_rslora") else rank)
