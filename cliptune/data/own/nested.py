"""Folders within class folders: which of them are the classes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from cliptune.noted import few

NESTED = ("leaf", "top")
"""Which folders are classes, where there are folders in folders."""

Found = dict[str, dict[str, list[str]]]
"""Split → class → paths of its pictures, relative to the root."""


def by_nesting(found: Found, parts: Mapping[str, Path], root: Path, nested: str | None) -> tuple[Found, list[str]]:
    """The classes that are meant, and sentences on it.

    Args:
        found: by the upper folders. parts: split → its folder, the root or below it.
        nested: "leaf", "top", or None where nothing was said; then the upper folders are classes, which is told.
    """
    folders = {split: _folders(classes, _before(parts[split], root)) for split, classes in found.items()}
    if nested == "leaf":
        return _by_leaf(found), _of_one_name(root, folders)
    inner = sorted({folder for inside in folders.values() for folder in inside if "/" in folder})
    return found, [_spoken(root, found["train"], inner)] if inner and nested is None else []


def _before(part: Path, root: Path) -> str:
    """What the paths of a split begin with: "train/", or nothing."""
    return "" if part == root else f"{part.relative_to(root).as_posix()}/"


def _folders(classes: Mapping[str, list[str]], before: str) -> set[str]:
    """Folders that hold pictures themselves, relative to that of the split: "animals/bird"."""
    parents = {path.rpartition("/")[0] for paths in classes.values() for path in paths}
    return {parent.removeprefix(before) for parent in parents}


def _spoken(root: Path, classes: Mapping[str, list[str]], inner: list[str]) -> str:
    ends = sorted({folder.rpartition("/")[2] for folder in inner})
    return (
        f"{root}: there are folders within the class folders. The classes are the {len(classes)} upper folders "
        f"({few(sorted(classes))}), and the pictures of the {len(inner)} folders below ({few(inner)}) count as theirs. "
        f"If the classes are the lower ones ({few(ends)}), say --nested leaf; --nested top says that this is meant."
    )


def _by_leaf(found: Found) -> Found:
    """Every folder that holds pictures as a class of its own name; upper folders that hold none at all stay empty."""
    by_leaf: Found = {}
    for split, classes in found.items():
        leaves: dict[str, list[str]] = {raw: [] for raw, paths in classes.items() if not paths}
        for path in (path for paths in classes.values() for path in paths):
            leaves.setdefault(path.split("/")[-2], []).append(path)
        by_leaf[split] = {raw: sorted(paths) for raw, paths in leaves.items()}
    return by_leaf


def _of_one_name(root: Path, folders: Mapping[str, set[str]]) -> list[str]:
    """A sentence on folders of one name, which are one class."""
    homes: dict[str, set[str]] = {}
    for folder in (folder for inside in folders.values() for folder in inside):
        homes.setdefault(folder.rpartition("/")[2], set()).add(folder)
    several = [f"{raw!r} ({', '.join(sorted(where))})" for raw, where in sorted(homes.items()) if len(where) > 1]
    return [f"{root}: folders of one name are one class: {few(several)}."] if several else []
