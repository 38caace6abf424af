"""From a weights file of any kind to tensors by name: TorchScript, `torch.save`, safetensors."""

from __future__ import annotations

import hashlib
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cliptune.clip.weights.archive import is_torchscript, read_torchscript
from cliptune.noted import few

# Where training programs put the weights, and what parallelism, compilation or wrappers put before names.
_WRAPPERS = ("state_dict", "model_state_dict", "model")
_PREFIXES = ("module.", "_orig_mod.", "model.", "clip_model.", "clip.")


def read_tensors(path: Path, notes: list[str] | None = None) -> dict[str, Tensor]:
    """Tensors of a weights file by name, on the CPU, in the precision of the file; none of its code is run.

    Training checkpoints are unwrapped (`{"state_dict": …}`), and prefixes such as `module.` are dropped.

    Args:
        notes: what was left out and dropped is added here, as phrases.

    Raises: ValueError with a sentence if the file is empty, truncated, of another kind, or holds more than
        tensors.
    """
    with path.open("rb") as file:
        start = file.read(16)
    if not start:
        raise ValueError(f"{path} is empty. Download it again.")
    if path.suffix == ".safetensors":
        found: Any = _read_safetensors(path)
    elif start.startswith(b"PK") and not zipfile.is_zipfile(path):
        raise ValueError(f"{path} is cut off: it begins like a weights file but has no end. Download it again.")
    elif is_torchscript(path):
        found = read_torchscript(path)
    elif start.startswith((b"PK", b"\x80")):
        found = _read_saved(path)
    else:
        raise ValueError(
            f"{path} is not a weights file: expected a TorchScript archive, a file written by torch.save, or "
            f"safetensors, but it begins with {start[:8]!r}. "
            + ("It looks like a web page or text. " if start.lstrip()[:1] in (b"<", b"{") else "")
            + "Download the weights themselves."
        )
    return _unwrap(found, path, [] if notes is None else notes)


def sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file's bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{path} is not a whole safetensors file ({error}). Download it again.") from error


def _read_saved(path: Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as refusal:
        raise ValueError(
            f"{path} was refused: it holds more than tensors, and loading it could run code "
            f"({str(refusal).splitlines()[0]}) Save the model's state_dict, or use safetensors."
        ) from refusal
    except (RuntimeError, EOFError, ValueError, KeyError) as error:
        raise ValueError(f"{path} is damaged ({str(error).splitlines()[0]}). Download it again.") from error


def _unwrap(found: Any, path: Path, notes: list[str]) -> dict[str, Tensor]:
    for wrapper in _WRAPPERS:
        if isinstance(found, Mapping) and isinstance(found.get(wrapper), Mapping):
            beside = [name for name in found if name != wrapper]
            if beside:
                notes.append(f"of the checkpoint {wrapper} was read, and not {few(beside)}")
            found = found[wrapper]
    if not isinstance(found, Mapping) or not found:
        raise ValueError(
            f"{path} holds a {type(found).__name__} where a dictionary of tensors was expected, so it is not a CLIP."
        )
    for name, value in found.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise ValueError(
                f"{path}: entry {name!r} is a {type(value).__name__} where a tensor was expected. "
                "Give the file of the model's state_dict alone."
            )
    tensors = dict(found)
    while prefix := next((p for p in _PREFIXES if all(name.startswith(p) for name in tensors)), None):
        tensors = {name.removeprefix(prefix): value for name, value in tensors.items()}
        notes.append(f"{prefix!r} was dropped from the names of its tensors")
    return tensors
