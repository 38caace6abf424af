"""Which reader a path of one's own is for: its content tells, not its name."""

from __future__ import annotations

import fnmatch
import importlib
import os
import pkgutil
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from cliptune.data.items import DEFAULT_TEMPLATE, SPLITS, Dataset
from cliptune.data.own.columns import asked_columns
from cliptune.data.own.finder import Finder, common_root
from cliptune.data.own.folders import read_folder
from cliptune.data.own.lists import read_list
from cliptune.data.own.naming import SPLIT_NAMES
from cliptune.data.own.opened import Opened
from cliptune.data.own.port import Format
from cliptune.data.own.rows import Content, Wanted, dataset_of
from cliptune.data.own.split_files import read_split
from cliptune.data.splits import FRACTIONS
from cliptune.reading import listed

_INNER = frozenset({"annotations", "data", "labels"})
"""Folders inside an exported one, besides those of splits, where its files may lie."""
_FORMATS = f"{__package__}.formats"
"""The room that is walked. It is not imported by name: formats stand on this room, not under it."""


@lru_cache(maxsize=1)
def known_formats() -> tuple[Format, ...]:
    """All formats, sorted by the names of their modules."""
    names = sorted(module.name for module in pkgutil.iter_modules(importlib.import_module(_FORMATS).__path__))
    return tuple(importlib.import_module(f"{_FORMATS}.{name}").FORMAT for name in names)


def reader_for(path: Path) -> Callable[..., Dataset]:
    """The reader of a file or folder that is there: `reader(path, root, **options)`, for a folder of class folders
    `reader(path, **options)`.

    Raises: ValueError if it could be of several formats, which are named.
    """
    found = files_of(path)
    if len(found) > 1:
        could_be = "; ".join(f"{f.title} ({listed([o.name for o in opened], 2)})" for f, opened in found)
        hint = "Give one of these files" if path.is_dir() else "Say which columns are meant: --columns image=…,label=…"
        raise ValueError(f"Data {path}: it could be one of several formats: {could_be}. {hint}.")
    if found:
        (known, files) = found[0]
        return _reader(known, files)
    if path.is_dir():
        return read_folder
    return read_split if _is_split_file(Opened(path)) else read_list


def files_of(path: Path) -> list[tuple[Format, list[Opened]]]:
    """Each format that the file, or a file in the folder, is of; with these files."""
    known = known_formats()
    if path.is_file():
        opened = Opened(path)
        return [(each, [opened]) for each in known if each.recognises(opened)]
    by_format: dict[str, tuple[Format, list[Opened]]] = {}
    for file in _exported_files(path):
        opened = Opened(file)
        for each in known:
            if any(fnmatch.fnmatch(file.name.lower(), pattern) for pattern in each.files) and each.recognises(opened):
                by_format.setdefault(each.title, (each, []))[1].append(opened)
    return [by_format[title] for title in sorted(by_format)]


def _exported_files(folder: Path) -> Iterator[Path]:
    """Files that may list pictures: in the folder itself, those of splits, and `annotations` and `data`; sorted."""
    inner = sorted(
        entry.path
        for entry in os.scandir(folder)
        if (entry.name.lower() in SPLIT_NAMES or entry.name.lower() in _INNER) and entry.is_dir()
    )
    patterns = [pattern for each in known_formats() for pattern in each.files]
    for place in (str(folder), *inner):
        names = sorted(entry.name for entry in os.scandir(place))
        likely = [name for name in names if any(fnmatch.fnmatch(name.lower(), pattern) for pattern in patterns)]
        yield from (path for path in (Path(place) / name for name in likely) if path.is_file())


def _is_split_file(file: Opened) -> bool:
    """Whether it is, or is meant to be, the field's `split_*.json`: an object over all of the file, or broken JSON."""
    if file.path.suffix.lower() == ".json":
        return not isinstance(file.json, list) and not file.is_json_lines
    return isinstance(file.json, dict) and all(isinstance(file.json.get(split), list) for split in SPLITS)


def _reader(known: Format, files: Sequence[Opened]) -> Callable[..., Dataset]:
    def read(
        path: str | Path,
        root: str | Path | None = None,
        *,
        columns: str | Mapping[str, str] | None = None,
        name: str | None = None,
        template: str = DEFAULT_TEMPLATE,
        split_seed: int = 1,
        fractions: Sequence[float] = FRACTIONS,
        exif: bool = True,
    ) -> Dataset:
        """A data set out of files of a known format; options as in `read_list`."""
        path = Path(path).expanduser()
        asked = asked_columns(columns)
        who = known.who(path)
        if asked and not known.columns:
            raise ValueError(f"{who}: --columns is for lists; which is which is known in this format. Leave it out.")
        home = _home(path) if root is None else Path(root).expanduser()
        content = _together(known, files, path, asked)
        if content.pictures is None:
            home = home if root is not None else common_root(content.rows, home) or home
            finder = Finder(home, who, uploads=content.uploads)
            content.rows, found = finder.rows(content.rows)
            content.notes += found
        called = name or (path.resolve().name if path.is_dir() else path.stem)
        wanted = Wanted(called, template, split_seed, fractions, exif, {"columns": asked} if asked else {})
        dataset = dataset_of(content, home, who, path.name, wanted)
        return replace(dataset, notes=(f"{path.name}: read as {known.title}.", *dataset.notes))

    return read


def _home(path: Path) -> Path:
    """The folder that the pictures of a list lie below: its own, or that around it if its own holds only lists."""
    if path.is_dir():
        return path
    return path.parent.parent if path.parent.name.lower() == "annotations" else path.parent


def _together(known: Format, files: Sequence[Opened], path: Path, asked: Mapping[str, str]) -> Content:
    """The rows of all files of a data set; those in a split's folder, or called like a split, are of that split."""
    together = Content([], says_splits=len(files) == 1)
    for file in files:
        content = known.read(file, asked)
        split = _split_of(file.path, path) if path.is_dir() else None
        inside = file.path.parent.relative_to(path).as_posix() if path.is_dir() else "."
        for row in content.rows:
            own = row.split or split
            before = content.pictures is None and inside not in (".", "annotations")
            together.rows.append(row._replace(path=_inside(inside, row.path) if before else row.path, split=own))
        together.notes += content.notes
        together.uploads |= content.uploads
        together.says_splits &= content.says_splits and split is None
        if content.pictures is not None:
            together.pictures = [*(together.pictures or []), *content.pictures]
    if together.pictures is not None and len(together.pictures) != len(together.rows):
        raise ValueError(
            f"{known.who(path)}: some files hold their pictures and others name files. Read them one after the other."
        )
    return together


def _inside(folder: str, path: str) -> str:
    """A relative path in a list that lies in a folder of the root; absolute paths and addresses stay."""
    absolute = re.match(r"[/\\]|[A-Za-z]:|[A-Za-z][A-Za-z0-9+.-]+://", path)
    return path if absolute else f"{folder}/{path}"


def _split_of(file: Path, folder: Path) -> str | None:
    """The split that a file's folder is called like, or a word of its own name."""
    inside = file.relative_to(folder).parts[:-1]
    words = [*inside, *re.split(r"[-_. 0-9]+", file.stem)]
    return next((SPLIT_NAMES[word.lower()] for word in words if word.lower() in SPLIT_NAMES), None)
