"""Loading the reference values, and comparing with them."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from cliptune.batch import Batch
from cliptune.clip import CLIP
from cliptune.clip.tokenizer import default_tokenizer
from tests.golden import weights

HERE = Path(__file__).parent
# max |difference| / max |value|: other CPU kernels move gradients by up to 1.5e-5.
TOLERANCE = 1e-4


@cache
def golden(name: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Configuration and tensors of one file of reference values."""
    path = HERE / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else {}, load_file(HERE / f"{name}.safetensors")


@cache
def reference_clip(arch: str) -> CLIP:
    return CLIP.from_state_dict(weights.openai_state_dict(arch, 1), name=arch, tokenizer=default_tokenizer())


def reference_batch() -> Batch:
    """The five reference images, brought from normalised values back to [0, 1] scale, with their labels."""
    tensors = golden("inputs")[1]
    mean, std = (torch.tensor(v)[:, None, None] for v in (CLIP_MEAN, CLIP_STD))
    return Batch.of(tensors["images"] * std + mean, tensors["labels"])


CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


def published_start(name: str, case: str) -> dict[str, Tensor]:
    """The learnables of a case before training, under their published names."""
    meta, tensors = golden(name)
    stored = {k.split("/param/")[1]: v for k, v in tensors.items() if k.startswith(f"{case}/param/") and "#" not in k}
    drawn = meta["cases"][case]["drawn_params"]
    return {**stored, **{k: weights.draw(d["shape"], d["std"], d["seed"], d["mean"]) for k, d in drawn.items()}}


def assert_equals(actual: Tensor, tensors: dict[str, Tensor], key: str, tolerance: float = TOLERANCE) -> None:
    """Compare with a stored tensor, or with the fingerprint of a big one."""
    if key in tensors:
        _assert_near(actual, tensors[key], key, tolerance)
        return
    parts = weights.digest(actual)
    assert any(f"{key}#{part}" in tensors for part in parts), f"there is no reference value {key}"
    for part, value in parts.items():
        # A vector's product with the draws is one number, which may be small because its terms cancel.
        size = float(parts["norm"]) if value.numel() == 1 else 0.0
        _assert_near(value, tensors[f"{key}#{part}"], f"{key}#{part}", tolerance, size)


def _assert_near(actual: Tensor, expected: Tensor, key: str, tolerance: float, size: float = 0.0) -> None:
    """Args: size: of what the difference is seen against, if that is larger than the largest value."""
    assert actual.shape == expected.shape, f"{key}: shape {tuple(actual.shape)}, not {tuple(expected.shape)}"
    error = (actual - expected).abs().max() / expected.abs().max().clamp_min(max(size, 1e-12))
    assert error <= tolerance, f"{key}: relative error {error:.2e}"
