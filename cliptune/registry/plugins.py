"""Methods from outside the package: files that the user names, and entry points of installed distributions."""

from __future__ import annotations

import hashlib
import importlib.util
import inspect
import re
import sys
from collections.abc import Collection, Mapping
from dataclasses import dataclass, is_dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType

GROUP = "cliptune.methods"
SUFFIX = ".py"
# Of an add-on that does not say: after those that add parameters, before those that mix prompts.
ORDER = 25


@dataclass(frozen=True)
class Origin:
    """Where a method from outside the package comes from.

    Args:
        name: by which runs and tables call it.
        path: of its file, absolute.
        sha256: of the file's bytes, hex.
        installed: whether it is found by its name, as an entry point, and not by its path.
    """

    name: str
    path: str
    sha256: str
    installed: bool = False


def parts_of(method: str) -> list[str]:
    """The host and add-ons that "+" joins. A "+" inside of a path does not separate."""
    parts: list[str] = []
    for piece in method.split("+"):
        if parts and "/" in parts[-1] and not parts[-1].endswith(SUFFIX):
            parts[-1] += f"+{piece}"
        else:
            parts.append(piece)
    return [part.strip() for part in parts]


def is_path(part: str) -> bool:
    """Whether a part of a method is a file's path and not a name."""
    return part.endswith(SUFFIX)


def label(method: str) -> str:
    """The method with each file called by its name: "./my_method.py+rlp" is "my_method+rlp"."""
    return "+".join(Path(part).stem if is_path(part) else part for part in parts_of(method))


def absolute(method: str) -> str:
    """The method with each file named from the root, as other processes find it."""
    return "+".join(str(_resolved(part)) if is_path(part) else part for part in parts_of(method))


def is_add_on(module: ModuleType) -> bool:
    """Whether a module's `build` takes a recipe, that of a host, and not a CLIP."""
    return next(iter(inspect.signature(module.build).parameters), "") == "recipe"


def from_file(part: str, reserved: Collection[str]) -> ModuleType:
    """Run a method's file, once for each content.

    Args:
        part: its path, ending in ".py".
        reserved: names that it must not have: those of the package's own methods.
    Raises: FileNotFoundError if there is none; ValueError if its name is reserved or no plain word, if running it
        fails, or if it lacks `Config` or `build`.
    """
    path = _resolved(part)
    name = path.stem
    if not re.fullmatch(r"[A-Za-z0-9_-]+", name):
        raise ValueError(
            f"Method file {path}: its name is that of the method, so it may hold letters, digits, _ and - alone, "
            f"got {name!r}. Rename the file."
        )
    if name in reserved:
        raise ValueError(
            f"Method file {path}: there is a method {name!r} in the package already, and runs would not tell them "
            "apart. Rename the file."
        )
    return _run(path, _content(path))


def origin_of(part: str) -> Origin:
    """Where the method that a path or the name of an entry point stands for comes from, without running it."""
    if is_path(part):
        path = _resolved(part)
        return Origin(path.stem, path.as_posix(), _sha256(_content(path)))
    where = _file_of(installed()[part])
    return Origin(part, where.as_posix(), _sha256(_content(where)), installed=True)


def installed() -> dict[str, EntryPoint]:
    """Name → entry point of the group `cliptune.methods`. Raises: ValueError if two distributions share a name."""
    found: dict[str, EntryPoint] = {}
    for point in entry_points(group=GROUP):
        other = found.setdefault(point.name, point)
        if other.value != point.value:
            raise ValueError(
                f"Two installed distributions name a method {point.name!r} ({other.value} and {point.value}). "
                "Uninstall one of them."
            )
    return found


def from_entry_point(point: EntryPoint) -> ModuleType:
    """The module of an entry point. Raises: ValueError if importing it fails or it is not a method."""
    try:
        module: ModuleType = point.load()
    except Exception as error:
        raise ValueError(
            f"Installed method {point.name!r} ({point.value}) cannot be imported: {type(error).__name__}: {error}. "
            "Repair or uninstall the distribution."
        ) from error
    _check(module, f"Installed method {point.name!r} ({point.value})")
    return module


def found_again(method: str, origins: Mapping[str, Mapping[str, object]], who: str) -> str:
    """The method that a run recorded, as `build` takes it; nothing of it is executed.

    Args:
        method: by its recorded name.
        origins: name → recorded `Origin`, as plain values.
        who: the run, for the error.
    Raises: FileNotFoundError if a file is gone; ValueError if its content is not the recorded one.
    """
    parts = []
    for part in parts_of(method):
        known = origins.get(part)
        if known is None:
            parts.append(part)
            continue
        asked, path, expected = (part if known["installed"] else str(known["path"])), known["path"], known["sha256"]
        if known["installed"] and part not in installed():
            raise ValueError(
                f"{who}: its method {part!r} is that of an installed distribution, which is not installed any more. "
                f"Install the one whose {Path(str(path)).name} has SHA-256 {str(expected)[:12]}…"
            )
        if not known["installed"] and not Path(str(path)).is_file():
            raise FileNotFoundError(
                f"{who}: its method {part!r} is the file {path}, which is not there any more. Put the file with "
                f"SHA-256 {str(expected)[:12]}… back to run it again."
            )
        here = origin_of(asked)
        if here.sha256 != expected:
            raise ValueError(
                f"{who}: its method {part!r} was the file {path} with SHA-256 {str(expected)[:12]}…, and "
                f"{here.path} has {here.sha256[:12]}… now. It has not been executed. Restore the file as it was, or "
                "train the method anew."
            )
        parts.append(asked)
    return "+".join(parts)


def _resolved(part: str) -> Path:
    return Path(part).expanduser().resolve()


def _content(path: Path) -> bytes:
    if not path.is_file():
        raise FileNotFoundError(f"Method file {path}: expected a Python file, found none. Check the path.")
    return path.read_bytes()


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@cache
def _run(path: Path, content: bytes) -> ModuleType:
    # The module's name tells contents apart; dataclasses and type hints look it up among the imported modules.
    module = ModuleType(f"cliptune_method_{_sha256(content)[:12]}.{path.stem}")
    module.__file__ = str(path)
    sys.modules[module.__name__] = module
    try:
        exec(compile(content, str(path), "exec"), module.__dict__)
        _check(module, f"Method file {path}")
    except Exception as error:
        del sys.modules[module.__name__]
        if isinstance(error, ValueError) and str(error).startswith("Method file"):
            raise
        raise ValueError(f"Method file {path} cannot be run: {type(error).__name__}: {error}.") from error
    return module


def _check(module: ModuleType, who: str) -> None:
    """Raises: ValueError if it is no method. What only the listing needs is filled in."""
    config = getattr(module, "Config", None)
    missing = [
        *([] if is_dataclass(config) and isinstance(config, type) else ["a dataclass `Config`"]),
        *([] if callable(getattr(module, "build", None)) else ["a function `build`"]),
    ]
    if missing:
        raise ValueError(
            f"{who}: a method has a dataclass `Config` and a function `build`, this one lacks {' and '.join(missing)}."
        )
    usual = {"PAPER": "", "ENTERS": "not stated", **({"ORDER": ORDER} if is_add_on(module) else {})}
    for name, value in usual.items():
        if not hasattr(module, name):
            setattr(module, name, value)


def _file_of(point: EntryPoint) -> Path:
    """The file of an entry point's module; packages that it lies in are imported, it is not."""
    try:
        spec = importlib.util.find_spec(point.module)
    except ImportError:
        spec = None
    if spec is None or spec.origin is None:
        raise ValueError(
            f"Installed method {point.name!r}: there is no module {point.module}. Repair or uninstall its distribution."
        )
    return Path(spec.origin)
