"""Data sets by name: what `load_data` knows, and how it reads a path."""

from __future__ import annotations

import difflib
import importlib
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

from torch import Tensor

from cliptune.data.items import DEFAULT_TEMPLATE, Dataset, Split
from cliptune.data.own.folders import read_folder
from cliptune.data.own.lists import LIST_SUFFIXES, read_list
from cliptune.data.own.naming import is_file
from cliptune.data.own.readers import reader_for
from cliptune.data.own.split_files import read_split
from cliptune.data.published.facts import groups_of_data, published
from cliptune.data.published.places import holds_classes, is_part_of, lies_below, recognise
from cliptune.data.published.torchvision_sets import read_torchvision
from cliptune.data.splits import CLASS_SUBSETS, stratified


@dataclass(frozen=True)
class Entry:
    """A data set, or a family `name/<member>`, that can be asked for by name.

    Args:
        name: as written by the user, lower-case.
        summary: one line for the listing.
        module: where its reader is; imported when first used.
        reader: function of that module: `reader(root=None, **options)`, for a family `reader(member,
            root=None, …)`.
        members: for a family, function of that module that gives member → summary; what follows a "-" in a member's
            name is left to the reader.
        aliases: other names for it.
        arguments: what its reader takes before the root, where one reader serves several data sets.
    """

    name: str
    summary: str
    module: str
    reader: str
    members: str | None = None
    aliases: tuple[str, ...] = ()
    arguments: tuple[str, ...] = ()

    def function(self, name: str) -> Callable[..., Any]:
        return getattr(importlib.import_module(self.module), name)


ENTRIES = [
    Entry(
        "tinyworld",
        "pictures drawn by the library, a laboratory; NAME-sketch, -night, -noise … show them in another domain",
        "cliptune.data.tinyworld.suites",
        "load_suite",
        members="list_suites",
    ),
    *(
        Entry(
            known.name,
            known.summary,
            "cliptune.data.published.reading",
            "read_published",
            aliases=known.spellings,
            arguments=(known.name,),
        )
        for known in published().values()
    ),
]
"""One entry per reader."""

GROUP = "cliptune.data"
"""Group of the entry points of installed distributions: functions `reader(root=None, **options)` that return a data
set, called by the entry point's name, which goes after our own names and after paths."""

SOURCES = ("coop", "torchvision")
"""In whose layout and splits published data sets are read: the field's, or those of torchvision's classes."""


def load_data(
    name: str | Path,
    root: str | Path | None = None,
    *,
    shots: int | None = None,
    seed: int = 1,
    classes: str = "all",
    repeat: bool = False,
    strict: bool = False,
    source: str = "coop",
    **options: Any,
) -> Dataset:
    """A data set by name or path, sampled to few shots, cut to base or new classes; in this order, as the
    field does.

    Args:
        name: a name of `list_data` ("tinyworld/objects", "oxford_pets"), a folder of pictures (`read_folder`), a
            list (`read_list`), a split file (`read_split`), or a file or folder of another tool (docs/formats.md), as
            its content tells.
        root: where named data sets and folders lie; for a list or split file the folder that its paths are
            relative to.
        shots: training images per class (and at most 4 for validation); None or below 1 for all.
        seed: of the few-shot sampling alone.
        classes: "all", "base" or "new".
        repeat, strict: see `Dataset.few_shot`.
        source: "coop", the field's layout and splits; or "torchvision", a named data set as `torchvision.datasets` lays
            it out below `root`, with its official splits (`read_torchvision`).
        options: handed to the reader, e.g. `template`, `fractions`, of lists `columns` and `delimiter`.
    Raises: FileNotFoundError if it is neither a name nor a path; TypeError for an option that the reader does
        not have; ValueError for bad content.
    """
    if classes not in CLASS_SUBSETS:
        raise ValueError(f"load_data: classes must be one of {', '.join(CLASS_SUBSETS)}, got {classes!r}.")
    if source not in SOURCES:
        raise ValueError(f"load_data: source must be one of {', '.join(SOURCES)}, got {source!r}.")
    dataset = _read(str(name), root, options, source)
    if shots is not None:
        dataset = dataset.few_shot(shots, seed, repeat=repeat, strict=strict)
    return dataset.subset(classes)


def from_images(
    images: Tensor | Sequence[Any],
    labels: Tensor | Sequence[int],
    class_names: Sequence[str],
    *,
    val: tuple[Tensor | Sequence[Any], Tensor | Sequence[int]] | None = None,
    test: tuple[Tensor | Sequence[Any], Tensor | Sequence[int]] | None = None,
    fractions: Sequence[float] | None = None,
    split_seed: int = 1,
    name: str = "images",
    template: str = DEFAULT_TEMPLATE,
    exif: bool = True,
) -> Dataset:
    """A data set out of pictures in memory.

    Args:
        images: training pictures: a tensor (N, 3, h, w), uint8 or float in [0, 1], or a sequence of Pillow
            images, uint8 arrays (h, w) or (h, w, 3), and tensors (3, h, w).
        labels: (N,), positions in `class_names`.
        class_names: C names in words.
        val, test: (pictures, labels) of the other splits; left out, they are empty.
        fractions: instead of `val` and `test`, cut `images` into these shares (`stratified` with
            `split_seed`).
        name, template: as in `Dataset`.
        exif: turn Pillow images as their EXIF tag says.
    Raises: ValueError for shapes, labels or values that do not fit, or `fractions` beside `val` or `test`.
    """
    names = tuple(class_names)
    train = Split.of_images(images, labels, names, prefix="train", exif=exif)
    if fractions is not None:
        if val is not None or test is not None:
            raise ValueError("from_images: give either fractions, or val and test, not both.")
        cut = stratified(train.labels.tolist(), split_seed, fractions)
        return Dataset(name, names, train.subset(cut[0]), train.subset(cut[1]), train.subset(cut[2]), template)

    def other(pair: tuple[Tensor | Sequence[Any], Tensor | Sequence[int]] | None, prefix: str) -> Split:
        return Split.empty() if pair is None else Split.of_images(*pair, names, prefix=prefix, exif=exif)

    return Dataset(name, names, train, other(val, "val"), other(test, "test"), template)


def list_data() -> list[dict[str, str]]:
    """What can be asked for by name: `{"name", "summary"}` each; the members of a family follow it as
    `family/member`.
    """
    rows = []
    for entry in ENTRIES:
        rows.append({"name": entry.name, "summary": entry.summary})
        if entry.members is not None:
            members = entry.function(entry.members)()
            rows += [{"name": f"{entry.name}/{member}", "summary": summary} for member, summary in members.items()]
    known = {row["name"] for row in rows}
    points = [point for point in entry_points(group=GROUP) if point.name not in known]
    return rows + [{"name": point.name, "summary": f"installed: {point.value}"} for point in points]


def data_group(name: str) -> list[str]:
    """Names of the data sets that "all11" or another group stands for; any other name stands for itself."""
    group = groups_of_data().get(name.lower())
    return [name] if group is None else list(group.members)


def canonical(name: str) -> str:
    """The spelling of `list_data` for any spelling of a data set's name; what is no such name stays as it is."""
    family, _, member = name.lower().partition("/")
    entry = _entry(family)
    if entry is None or bool(member) == (entry.members is None):
        return name
    return f"{entry.name}/{member}" if member else entry.name


def is_named(name: str, root: str | Path | None) -> bool:
    """Whether `load_data` takes `name` for the name of a data set below `root`, and not for a path."""
    family, _, member = name.lower().partition("/")
    entry = _entry(family)
    if entry is None or bool(member) == (entry.members is None):
        return False
    # A user's own folder may be called "flowers"; where the published set is not there, it is meant. A folder without
    # pictures in class folders is nobody's own, but what there is of the published set.
    own = Path(root or ".").expanduser() / name
    known = published().get(entry.name)
    if known is None or not own.is_dir() or (root is not None and lies_below(known, root)):
        return True
    return recognise(own) is None and (is_part_of(known, own) or not holds_classes(own))


def _entry(family: str) -> Entry | None:
    return next((entry for entry in ENTRIES if family in (entry.name, *entry.aliases)), None)


def _read(name: str, root: str | Path | None, options: dict[str, Any], source: str) -> Dataset:
    family, _, member = name.lower().partition("/")
    entry = _entry(family)
    path = Path(name).expanduser()
    if family in groups_of_data():
        raise ValueError(f"Data {name!r} is a group of data sets: open one of {', '.join(data_group(family))}.")
    reader: Callable[..., Dataset]
    arguments: tuple[Any, ...]
    guess = ""
    if source == "torchvision":
        reader, arguments = read_torchvision, (name, root)
    elif entry is not None and entry.members is not None and member:
        members = entry.function(entry.members)()
        if member.partition("-")[0] not in members:
            raise _unknown(name, [f"{entry.name}/{known}" for known in members])
        reader, arguments = entry.function(entry.reader), (member, root)
    elif entry is not None and is_named(name, root):
        reader, arguments = entry.function(entry.reader), (*entry.arguments, root)
    elif path.is_dir() and (known := recognise(path)) is not None:
        entry = next(entry for entry in ENTRIES if entry.name == known.name)
        reader, arguments = entry.function(entry.reader), (*entry.arguments, path)
        guess = f"Data {name!r}: by its files the folder is the published data set {known.name}, and was read as that."
    elif path.is_dir() or is_file(path):
        reader, arguments = _own(path, root)
        guess = _named_alike(name, entry)
    elif root is not None and (Path(root).expanduser() / path).is_dir():
        reader, arguments = _own(Path(root).expanduser() / path, None)
        guess = _named_alike(name, entry)
    elif path.suffix.lower() in LIST_SUFFIXES:
        reader, arguments = read_list, (path, root)
    elif path.suffix.lower() == ".json":
        reader, arguments = read_split, (path, root)
    elif entry is not None and entry.members is not None and not member:
        members = entry.function(entry.members)()
        raise ValueError(
            f"Data {name!r} is a family: say which one, {', '.join(f'{entry.name}/{known}' for known in members)}."
        )
    elif (point := _installed(name)) is not None:
        reader, arguments = _reader_of(point), (root,)
    else:
        raise _unknown(name, [row["name"] for row in list_data()])
    _check_options(name, reader, len(arguments), options)
    dataset = reader(*arguments, **options)
    if not isinstance(dataset, Dataset):
        raise ValueError(f"Data {name!r}: its reader must return a Dataset, got {type(dataset).__name__}.")
    return replace(dataset, notes=(*dataset.notes, guess)) if guess else dataset


def _own(path: Path, root: str | Path | None) -> tuple[Callable[..., Dataset], tuple[Any, ...]]:
    """Reader and arguments of a file or folder that is there."""
    reader = reader_for(path)
    return reader, ((path,) if reader is read_folder else (path, root))


def _named_alike(name: str, entry: Entry | None) -> str:
    """What is to be said of a folder that is called like a data set of the listing; "" of any other."""
    if entry is None:
        return ""
    return f"Data {name!r}: there is a folder of this name, so it was read, and not the data set {entry.name}."


def _installed(name: str) -> EntryPoint | None:
    return next(iter(entry_points(group=GROUP, name=name)), None)


def _reader_of(point: EntryPoint) -> Callable[..., Dataset]:
    """Raises: ValueError if it cannot be imported."""
    try:
        return point.load()
    except Exception as error:
        raise ValueError(
            f"Installed data {point.name!r} ({point.value}) cannot be imported: {type(error).__name__}: {error}. "
            "Repair or uninstall its distribution."
        ) from error


def _unknown(name: str, known: list[str]) -> FileNotFoundError:
    near = difflib.get_close_matches(name.lower(), known, n=3, cutoff=0.4)
    hint = f" Did you mean {' or '.join(near)}?" if near else f" Known names: {', '.join(known)}."
    return FileNotFoundError(
        f"Data {name!r}: expected the name of a data set, a folder of class folders, or a list such as a .csv, .jsonl "
        f"or .json file, found none of them.{hint}"
    )


def _check_options(name: str, reader: Callable[..., Any], n_positional: int, options: dict[str, Any]) -> None:
    parameters = list(inspect.signature(reader).parameters.values())[n_positional:]
    known = [parameter.name for parameter in parameters]
    unknown = [option for option in options if option not in known]
    if unknown and not any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters):
        near = difflib.get_close_matches(unknown[0], known, n=1)
        hint = f"Did you mean {near[0]!r}?" if near else f"It has {', '.join(known) or 'none'}."
        raise TypeError(f"Data {name!r} has no option {unknown[0]!r}. {hint}")
