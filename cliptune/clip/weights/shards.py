"""Weights that are split over several files, with an index that says which tensor lies where."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from cliptune.clip.weights.checkpoint import read_tensors, sha256
from cliptune.clip.weights.choice import INDEX
from cliptune.clip.weights.json_parts import read_object
from cliptune.reading import shown

# Far above any CLIP.
_MOST_SHARDS = 1000


def is_index(path: Path) -> bool:
    return path.name.endswith(INDEX)


def shards(index: Path) -> list[str]:
    """Names of the files that an index speaks of, in order.

    Raises: ValueError if it is no index, or a name is no plain file name.
    """
    return sorted(set(_places(index).values()))


def read_weights(path: Path, notes: list[str] | None = None) -> dict[str, Any]:
    """Tensors of a weights file, or of all files of an index; as `read_tensors`.

    Raises: FileNotFoundError if a file of the index is missing; ValueError if a tensor is not where the index says.
    """
    if not is_index(path):
        return read_tensors(path, notes)
    places, found = _places(path), {}
    for name in shards(path):
        shard = path.parent / name
        if not shard.is_file():
            raise FileNotFoundError(
                f"{path} speaks of {name}, which is not beside it. Put all files of the index into one folder."
            )
        tensors = read_tensors(shard)
        missing = [tensor for tensor, place in places.items() if place == name and tensor not in tensors]
        if missing:
            raise ValueError(
                f"{shard} should hold tensor {shown(missing[0])!r}, as {path.name} says. Download it again."
            )
        found.update(tensors)
    if notes is not None:
        notes.append(f"its weights were read from {len(shards(path))} files, as {path.name} says")
    return found


def weights_sha256(path: Path) -> str:
    """SHA-256 of a weights file; of an index, that of the lines "SHA-256 name" of its files."""
    if not is_index(path):
        return sha256(path)
    lines = "".join(f"{sha256(path.parent / name)} {name}\n" for name in shards(path))
    return hashlib.sha256(lines.encode()).hexdigest()


def _places(index: Path) -> dict[str, str]:
    """Tensor → file."""
    places = read_object(index).get("weight_map")
    if not isinstance(places, dict) or not places or len(set(map(str, places.values()))) > _MOST_SHARDS:
        raise ValueError(f"{index} has no weight_map of tensors to files. Download it again.")
    for place in places.values():
        if not isinstance(place, str) or Path(place).name != place or not place.endswith((".safetensors", ".bin")):
            raise ValueError(
                f"{index}: a tensor should lie in a .safetensors or .bin file beside it, got {shown(repr(place))}. "
                "Download it again."
            )
    return places
