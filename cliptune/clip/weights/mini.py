"""`mini`, the small CLIP that comes with the package, pre-trained on Tinyworld (see mini.md)."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

WEIGHTS = Path(__file__).with_name("mini.safetensors")
VOCABULARY = 49408
_STD = 0.05
_ROWS, _IDS = "token_embedding.trained_rows", "token_embedding.trained_ids"


def initial_rows(width: int, seed: int) -> Tensor:
    """The vocabulary table before training: (49408, width) float32, uniform with standard deviation 0.05.

    Made from integer draws, so that it is the same on every machine. A word that never occurred in pre-training
    keeps its row: it means nothing to `mini`, but differs from every other word.
    """
    generator = torch.Generator().manual_seed(seed)
    draws = torch.randint(0, 1 << 16, (VOCABULARY, width), generator=generator)
    return (draws.float() + 0.5 - (1 << 15)) * (_STD * 12**0.5 / (1 << 16))


def pack(tensors: dict[str, Tensor], ids: Tensor) -> dict[str, Tensor]:
    """What the shipped file holds: float16, and of the vocabulary only the trained rows.

    Args:
        tensors: OpenAI's layout, with `token_embedding.weight` (n, width), the trained rows alone.
        ids: (n,) their places in the vocabulary.
    """
    out = {key: value.half().contiguous() for key, value in tensors.items() if key != "logit_scale"}
    out[_ROWS] = out.pop("token_embedding.weight")
    return {**out, _IDS: ids.to(torch.int32), "logit_scale": tensors["logit_scale"].float()}


def mini_state_dict(path: str | Path = WEIGHTS) -> dict[str, Tensor]:
    """All tensors of `mini` in OpenAI's layout, float32, the vocabulary table whole (49408, width).

    Raises: FileNotFoundError if the weights are not there; ValueError if the file is not `mini`'s.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"mini: the weights should lie at {path}, but there is no such file. Install the package again, or make "
            "them with tools/pretrain_mini.py."
        )
    with safe_open(path, framework="pt") as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
        metadata = file.metadata() or {}
    if not {_ROWS, _IDS} <= set(tensors) or "vocabulary_seed" not in metadata:
        raise ValueError(
            f"mini: {path} holds no trained vocabulary rows ({_ROWS}, {_IDS}), so it is not a file of mini. "
            "Load other checkpoints with load_clip(path)."
        )
    rows, ids = tensors.pop(_ROWS).float(), tensors.pop(_IDS).long()
    table = initial_rows(rows.shape[1], int(metadata["vocabulary_seed"]))
    table[ids] = rows
    return {**{key: value.float() for key, value in tensors.items()}, "token_embedding.weight": table}


@cache
def mini_metadata() -> dict[str, Any]:
    """How the shipped weights were made: seed, pictures per stage, sizes."""
    with safe_open(WEIGHTS, framework="pt") as file:
        told: dict[str, Any] = json.loads((file.metadata() or {}).get("training", "{}"))
        return told
