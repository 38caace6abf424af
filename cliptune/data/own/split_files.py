"""Split files: the field's `split_zhou_*.json`, read and written."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cliptune.data.items import DEFAULT_TEMPLATE, SPLITS, Dataset, Item, Split
from cliptune.data.own.naming import class_name, relative_path, require_files
from cliptune.noted import spoken_names
from cliptune.reading import content_of, json_value, listed, shown


def make_split(dataset: Dataset) -> dict[str, list[list[Any]]]:
    """The content of a split file: `{"train": [[path, label, class name], …], "val": …, "test": …}`, in the
    splits' order.

    The order matters: few-shot picks depend on it. Raises: ValueError for pictures in memory, which have no
        paths.
    """
    if any(len(dataset[split]) and dataset[split].in_memory for split in SPLITS):
        raise ValueError(
            f"Dataset {dataset.name} lies in memory, and a split file lists files. Save the pictures in folders first."
        )
    return {split: [[item.path, item.label, item.class_name] for item in dataset[split].items] for split in SPLITS}


def read_split(
    path: str | Path,
    root: str | Path | None = None,
    *,
    name: str | None = None,
    template: str = DEFAULT_TEMPLATE,
    exif: bool = False,
    check_files: bool = True,
) -> Dataset:
    """A data set out of a split file; items keep their order.

    Args:
        path: JSON object with train, val and test, each a list of [path relative to the root, label from 0,
            class name].
        root: folder of the pictures; by default the split file's own.
        name: by default the file's name without `split_` and its author.
        template: text with one "{}".
        exif: see `read_image`; leave it False for published data sets.
        check_files: look that every listed picture is there.
    Raises: FileNotFoundError for the file or listed pictures; ValueError for another format, a path that
        leaves the root, labels with gaps, or a label with two names.
    """
    path = Path(path).expanduser()
    who = f"Split file {path}"
    root = path.parent if root is None else Path(root).expanduser()
    content = _loaded(path, who)
    items = {
        split: [_item(entry, f"{who}, {split}[{i}]") for i, entry in enumerate(content[split])] for split in SPLITS
    }
    names = _class_names(items, who)
    if check_files:
        require_files(root, (item.path for split in SPLITS for item in items[split]), who)
    paths = [item.path for split in SPLITS for item in items[split]]
    repeated = len(paths) - len(set(paths))
    notes = [f"{who}: {repeated} pictures are listed more than once."] if repeated else []
    raw_names = {entry[1]: entry[2] for split in SPLITS for entry in content[split]}
    notes += spoken_names(who, [raw_names[label] for label in range(len(names))], names)
    train, val, test = (Split.of_files(root, items[split], exif=exif) for split in SPLITS)
    return Dataset(name or _stem(path), names, train, val, test, template, root, notes=tuple(notes)).with_gaps_noted()


def _loaded(path: Path, who: str) -> Mapping[str, list[Any]]:
    if not path.is_file():
        raise FileNotFoundError(f"{who}: expected a JSON file, found nothing. Check the path.")
    try:
        content = json_value(content_of(path))
    except ValueError as error:
        raise ValueError(f"{who}: expected JSON, but {error}. Fetch or write the file again.") from error
    if not isinstance(content, dict) or any(not isinstance(content.get(split), list) for split in SPLITS):
        came = f"an object with {listed(content) or 'nothing'}" if isinstance(content, dict) else type(content).__name__
        raise ValueError(f"{who}: expected an object with the lists train, val and test, got {came}.")
    return content


def _item(entry: Any, where: str) -> Item:
    well_formed = (
        isinstance(entry, list)
        and len(entry) == 3
        and isinstance(entry[0], str)
        and type(entry[1]) is int
        and entry[1] >= 0
        and isinstance(entry[2], str)
    )
    if not well_formed:
        raise ValueError(
            f"{where}: expected [path, label, class name] with a label from 0, got {json.dumps(entry)[:100]}."
        )
    return Item(relative_path(entry[0], where), entry[1], class_name(entry[2]))


def _class_names(items: Mapping[str, list[Item]], who: str) -> tuple[str, ...]:
    names: dict[int, str] = {}
    for split in SPLITS:
        for item in items[split]:
            if names.setdefault(item.label, item.class_name) != item.class_name:
                raise ValueError(
                    f"{who}: label {item.label} is called {shown(names[item.label])!r} and {shown(item.class_name)!r}. "
                    "Give each label one name."
                )
    gaps = sorted(set(range(len(names))) - set(names))
    if not names or gaps:
        raise ValueError(
            f"{who}: labels must be 0, 1, 2 … without gaps, " + (f"but {gaps[0]} is missing." if gaps else "got none.")
        )
    return tuple(names[label] for label in range(len(names)))


def _stem(path: Path) -> str:
    for prefix in ("split_zhou_", "split_"):
        if path.stem.startswith(prefix) and path.stem != prefix:
            return path.stem[len(prefix) :]
    return path.stem
