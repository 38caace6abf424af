"""What was learned, as a file of a few kilobytes: `adapter_config.json` and `adapter_model.safetensors`."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError
from safetensors.torch import load as from_safetensors
from safetensors.torch import save as to_safetensors
from torch import Tensor

from cliptune.files import atomic_write_bytes, atomic_write_json
from cliptune.runs.file_names import CONFIG, WEIGHTS
from cliptune.runs.jsonable import jsonable
from cliptune.version import __version__

if TYPE_CHECKING:
    from cliptune.adapter import Adapter
    from cliptune.clip import CLIP

FORMAT = 1


def save_adapter(folder: str | Path, adapter: Adapter, *, method: str, config: Mapping[str, Any], **more: Any) -> None:
    """Write the learnables, and what is needed to build the adapter that they fit.

    Args:
        folder: where the two files go; made if it is not there.
        method: the name to build with; config: its resolved options.
        more: further plain entries of `adapter_config.json`, such as the training classes.
    """
    learnables = adapter.learnables()
    description = {
        "format": FORMAT,
        "cliptune": __version__,
        "method": method,
        "config": config,
        "backbone": backbone(adapter.clip),
        "learnables": {name: list(tensor.shape) for name, tensor in learnables.items()},
        **more,
    }
    # The weights go first: a configuration that is there always has its weights beside it.
    atomic_write_bytes(Path(folder) / WEIGHTS, to_bytes(learnables))
    atomic_write_json(Path(folder) / CONFIG, jsonable(description))


def to_bytes(tensors: Mapping[str, Tensor]) -> bytes:
    """Equal tensors give equal bytes."""
    return to_safetensors({name: tensors[name].contiguous() for name in sorted(tensors)}, metadata={"format": "pt"})


def read_adapter_config(folder: str | Path) -> dict[str, Any]:
    """`adapter_config.json` of a folder.

    Raises: FileNotFoundError if there is none; ValueError if it is not readable or of another format version.
    """
    path = Path(folder).expanduser() / CONFIG
    if not path.is_file():
        raise FileNotFoundError(
            f"{folder} holds no adapter: there is no {CONFIG} in it. Give the folder of a finished run."
        )
    try:
        description: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(
            f"{path} is not readable JSON: {error}. Train the adapter anew, or restore the file."
        ) from error
    version = description.get("format") if isinstance(description, dict) else None
    if version != FORMAT:
        raise ValueError(
            f"{path} is of adapter format {version!r}; this version of cliptune ({__version__}) reads format {FORMAT}. "
            "Use the version that wrote it, or train the adapter anew."
        )
    return description


def read_learnables(folder: str | Path) -> dict[str, Tensor]:
    """The tensors of `adapter_model.safetensors`. Raises: FileNotFoundError; ValueError if the file is damaged."""
    path = Path(folder).expanduser() / WEIGHTS
    if not path.is_file():
        raise FileNotFoundError(f"{folder} holds no learnables: there is no {WEIGHTS} in it.")
    try:
        return from_safetensors(path.read_bytes())
    except SafetensorError as error:
        raise ValueError(f"{path} is not a whole safetensors file ({error}). Copy or train it again.") from error


def load_adapter(folder: str | Path, adapter: Adapter) -> dict[str, Any]:
    """Load a folder's learnables into an adapter built the same way; the folder's configuration is returned.

    Raises: FileNotFoundError or ValueError if the files are missing or damaged, belong to another backbone, or do
        not fit the adapter's learnables by name and shape.
    """
    description = read_adapter_config(folder)
    check_backbone(description["backbone"], adapter.clip, str(folder))
    try:
        adapter.load_learnables(read_learnables(folder))
    except ValueError as error:
        raise ValueError(f"The adapter in {folder} (method {description['method']!r}) does not fit: {error}") from error
    return description


def backbone(clip: CLIP) -> dict[str, Any]:
    """Name, sizes and origin of a CLIP, to know it again."""
    sizes = dataclasses.asdict(clip.config)
    # Runs that were made before these had a place were all of towers with the usual width.
    sizes = {name: size for name, size in sizes.items() if size is not None or not name.endswith("_mlp")}
    return {
        "name": clip.name,
        "sizes": sizes,
        "origin": {key: value for key, value in clip.origin.items() if key != "path"},
    }


def check_backbone(saved: Mapping[str, Any], clip: CLIP, who: str) -> None:
    """Compare what `backbone` wrote with a CLIP: sizes, and the weights' SHA-256 where both are known.

    Raises: ValueError saying what differs.
    """
    here = jsonable(backbone(clip))
    differing = [
        f"{name} {saved['sizes'].get(name)} instead of {size}"
        for name in dict.fromkeys((*here["sizes"], *saved["sizes"]))
        if saved["sizes"].get(name) != (size := here["sizes"].get(name))
    ]
    if differing:
        raise ValueError(
            f"The adapter in {who} was trained on the backbone {saved['name']!r}, which has {', '.join(differing)} "
            f"of the given {here['name']!r}. Load it on the backbone it was trained on."
        )
    theirs, ours = saved["origin"].get("sha256"), here["origin"].get("sha256")
    if theirs and ours and theirs != ours:
        raise ValueError(
            f"The adapter in {who} was trained on other weights of {saved['name']!r} "
            f"(SHA-256 {theirs[:12]}…, the given ones have {ours[:12]}…). Load the backbone it was trained on."
        )
