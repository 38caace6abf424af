"""What was learned, as a file of a few kilobytes: `adapter_config.json` and `adapter_model.safetensors`."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors.torch import load as from_safetensors
from safetensors.torch import save as to_safetensors
from torch import Tensor

from cliptune.files import atomic_write_bytes, atomic_write_json
from cliptune.reading import content_of, json_value, listed, shown
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
        description: dict[str, Any] = json_value(content_of(path))
    except ValueError as error:
        raise ValueError(
            f"{path} is not readable JSON: {error}. Train the adapter anew, or restore the file."
        ) from error
    version = description.get("format") if isinstance(description, dict) else None
    if version != FORMAT:
        raise ValueError(
            f"{path} is of adapter format {shown(repr(version))}; this version of cliptune ({__version__}) reads "
            f"format {FORMAT}. Use the version that wrote it, or train the adapter anew."
        )
    wrong = next(_misfits(description), None)
    if wrong is not None:
        raise ValueError(
            f"{path} was edited: {wrong} is missing or not what is written there. Train the adapter anew, or restore "
            "the file."
        )
    return description


def _misfits(description: Mapping[str, Any]) -> Iterator[str]:
    """What is not of the form that `save_adapter` and `fit` write."""
    for name, kind in (("method", str), ("config", dict), ("backbone", dict), ("learnables", dict)):
        if not isinstance(description.get(name), kind):
            yield name
            return
    backbone, origin = description["backbone"], description["backbone"].get("origin")
    for name, kind in (("name", str), ("sizes", dict), ("origin", dict)):
        if not isinstance(backbone.get(name), kind):
            yield f"backbone.{name}"
            return
    if not all(value is None or isinstance(value, str) for value in origin.values()):
        yield "backbone.origin"
    if "classes" in description and not _is_class_set(description["classes"]):
        yield "classes"
    plugins = description.get("plugins", {})
    if not isinstance(plugins, dict) or not all(
        isinstance(one, dict) and {"path", "sha256", "installed"} <= set(one) for one in plugins.values()
    ):
        yield "plugins"


def _is_class_set(classes: Any) -> bool:
    if not isinstance(classes, dict) or not set(classes) <= {"names", "template", "descriptions", "truncate"}:
        return False
    sets = classes.get("descriptions", {})
    return (
        _are_texts(classes.get("names"))
        and isinstance(classes.get("template", ""), str)
        and isinstance(classes.get("truncate", False), bool)
        and isinstance(sets, dict)
        and all(isinstance(of, dict) and all(map(_are_texts, of.values())) for of in sets.values())
    )


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(text, str) for text in value)


def read_learnables(folder: str | Path) -> dict[str, Tensor]:
    """The tensors of `adapter_model.safetensors`. Raises: FileNotFoundError; ValueError if the file is damaged."""
    path = Path(folder).expanduser() / WEIGHTS
    if not path.is_file():
        raise FileNotFoundError(f"{folder} holds no learnables: there is no {WEIGHTS} in it.")
    try:
        return from_safetensors(path.read_bytes())
    except OSError:
        raise
    except Exception as error:  # of its own kind, or a KeyError for a type of numbers that torch does not have
        raise ValueError(
            f"{path} is not a whole safetensors file ({shown(str(error), 200)}). Copy or train it again."
        ) from error


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
        f"{shown(name)} {shown(str(saved['sizes'].get(name)))} instead of {size}"
        for name in dict.fromkeys((*here["sizes"], *saved["sizes"]))
        if saved["sizes"].get(name) != (size := here["sizes"].get(name))
    ]
    if differing:
        raise ValueError(
            f"The adapter in {who} was trained on the backbone {shown(saved['name'])!r}, which has {listed(differing)} "
            f"of the given {here['name']!r}. Load it on the backbone it was trained on."
        )
    theirs, ours = saved["origin"].get("sha256"), here["origin"].get("sha256")
    if theirs and ours and theirs != ours:
        raise ValueError(
            f"The adapter in {who} was trained on other weights of {shown(saved['name'])!r} "
            f"(SHA-256 {theirs[:12]}…, the given ones have {ours[:12]}…). Load the backbone it was trained on."
        )
