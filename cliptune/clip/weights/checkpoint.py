"""From a weights file of any kind to tensors by name: TorchScript, `torch.save`, safetensors."""

from __future__ import annotations

import hashlib
import pickle
import re
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cliptune.clip.weights.archive import is_torchscript, is_zip, read_torchscript
from cliptune.noted import few
from cliptune.reading import shown

# Where training programs put the weights, and what parallelism, compilation or wrappers put before names.
_WRAPPERS = ("state_dict", "model_state_dict", "model")
_PREFIXES = ("module.", "_orig_mod.", "model.", "clip_model.", "clip.")


_GLOBAL = re.compile(r"GLOBAL (\S+) was not an allowed global")
_TERMINAL = re.compile(r"\x1b\[[0-9;]*m")
# Bytes that a tensor may have beyond what is stored of it: an expanded scalar does no harm.
_LITTLE = 1 << 20


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
        found: Any = read_safetensors(path)
    elif start.startswith(b"PK") and not is_zip(path):
        raise ValueError(f"{path} is cut off: it begins like a weights file but has no end. Download it again.")
    elif is_torchscript(path):
        found = read_torchscript(path)
    elif start.startswith((b"PK", b"\x80")):
        found = read_saved(path)
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


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """Tensors of a safetensors file. Raises: ValueError with a sentence if it is damaged."""
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except OSError:
        raise
    except Exception as error:  # of its own kind, or a KeyError for a type of numbers that torch does not have
        raise ValueError(
            f"{path} is not a whole safetensors file ({shown(str(error), 200)}). Download it again."
        ) from error


def read_saved(path: Path, allowed: Sequence[Any] = ()) -> Any:
    """What `torch.save` wrote, if it is tensors and plain values; nothing in it is executed.

    Args:
        allowed: what else the file may name, as in `torch.serialization.safe_globals`.
    Raises: ValueError with a sentence if it is damaged, holds more, or unpacks to more than it is large.
    """
    _check_stored(path)
    try:
        with torch.serialization.safe_globals(list(allowed)):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as refusal:
        raise ValueError(
            f"{path} was refused: it holds more than tensors, and loading it could run code ({_refused(refusal)}). "
            "Save the model's state_dict, or use safetensors."
        ) from refusal
    except Exception as error:  # a damaged pickle fails in many ways inside torch
        raise ValueError(f"{path} is damaged ({_first_line(error)}). Download it again.") from error


def _check_stored(path: Path) -> None:
    """Raises: ValueError if members of a zip are compressed: torch never does that, and unpacking could fill the
    memory.
    """
    if not is_zip(path):
        return
    try:
        with zipfile.ZipFile(path) as archive:
            packed = next((entry for entry in archive.infolist() if entry.compress_type != zipfile.ZIP_STORED), None)
    except Exception as error:  # a damaged directory fails in many ways
        raise ValueError(f"{path} is damaged ({_first_line(error)}). Download it again.") from error
    if packed is not None:
        raise ValueError(
            f"{path} was refused: its part {shown(packed.filename)!r} is compressed, which torch.save never does. Get "
            "the file from its publisher again."
        )


def _refused(refusal: Exception) -> str:
    """What a pickle asked for, without the advice and the terminal codes of torch's own message."""
    named = _GLOBAL.search(str(refusal))
    if named:
        return f"it names {shown(named[1])}, which is no tensor"
    return _first_line(ValueError(_TERMINAL.sub("", str(refusal)))).rstrip(".")


def _first_line(error: Exception) -> str:
    return shown((str(error).splitlines() or [type(error).__name__])[0], 300)


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
                f"{path}: entry {_called(name)} is a {type(value).__name__} where a tensor was expected. "
                "Give the file of the model's state_dict alone."
            )
        if not _is_stored(value):
            raise ValueError(
                f"{path}: tensor {_called(name)} of shape {tuple(value.shape)} stands for more numbers than are "
                "stored. Save it as a dense tensor (`.contiguous()`)."
            )
    tensors = {str(name): value for name, value in found.items()}
    while prefix := next((p for p in _PREFIXES if all(name.startswith(p) for name in tensors)), None):
        tensors = {name.removeprefix(prefix): value for name, value in tensors.items()}
        notes.append(f"{prefix!r} was dropped from the names of its tensors")
    return tensors


def _called(name: Any) -> str:
    # What is no text may be of any size once it is written out.
    return repr(shown(name)) if isinstance(name, str) else f"called by a {type(name).__name__}"


def _is_stored(value: Tensor) -> bool:
    """Whether every number of a tensor is there: not sparse, without numbers, or one number seen from many places."""
    if value.layout is not torch.strided or value.device.type != "cpu":
        return False
    return value.numel() * value.itemsize <= max(value.untyped_storage().nbytes(), _LITTLE)
