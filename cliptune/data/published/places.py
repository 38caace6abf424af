"""Where a published data set lies on this machine."""

from __future__ import annotations

import os
from pathlib import Path

from cliptune.data.images import is_image_name
from cliptune.data.published.facts import Facts, Place, published


def locate(facts: Facts, root: str | Path | None) -> tuple[Path, Place]:
    """Folder of the data set: below `root` as the field lays it out, or `root` itself.

    Raises: ValueError without a root; FileNotFoundError that says which folder was expected where.
    """
    if root is None:
        raise ValueError(
            f"Data set {facts.name}: give root (--root), the folder that holds {facts.places[0].folder}/. "
            f"`cliptune data plan {facts.name}` says what belongs there."
        )
    top = Path(root).expanduser()
    if not top.is_dir():
        raise FileNotFoundError(f"Data set {facts.name}: the root {top} is no folder. Check --root.")
    for place in facts.places:
        for folder in (top / place.folder, top):
            if (folder / _marker(facts, place)).is_dir():
                return folder, place
    expected = top / facts.places[0].folder / _marker(facts, facts.places[0])
    raise FileNotFoundError(
        f"Data set {facts.name}: expected the pictures in the folder {expected}, found none there. "
        f"`cliptune data plan {facts.name}` says where to get what and where it goes."
    )


def lies_below(facts: Facts, root: str | Path) -> bool:
    """Whether `locate` would find it."""
    try:
        locate(facts, root)
    except FileNotFoundError:
        return False
    return True


def is_part_of(facts: Facts, folder: Path) -> bool:
    """Whether files of the published data set's own names lie in `folder`, though its pictures do not."""
    named = [facts.split_file, *facts.needs]
    return any((folder / name).exists() for name in named if name is not None and "." in Path(name).name)


def holds_classes(folder: Path) -> bool:
    """Whether there is a picture in a folder of `folder`, at any depth."""
    below = (files for here, _, files in os.walk(folder, followlinks=False) if Path(here) != folder)
    return any(is_image_name(file) for files in below for file in files)


def recognise(folder: Path) -> Facts | None:
    """The published data set whose pictures and labels lie in `folder` itself, if there is one."""
    for facts in published().values():
        for place in facts.places:
            labels = facts.split_file or next((need for need in facts.needs if need.endswith(".txt")), None)
            known = (folder / labels).is_file() if labels else folder.resolve().name == place.folder
            if known and (folder / _marker(facts, place)).is_dir():
                return facts
    return None


def class_folders(folder: Path, who: str) -> tuple[dict[str, list[str]], list[str]]:
    """Name of each class folder → names of its pictures, both sorted; and what was passed over, as sentences.

    Raises: FileNotFoundError if there is no class folder.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"{who}: expected class folders in {folder}, which is not there.")
    names = sorted(entry.name for entry in os.scandir(folder) if entry.is_dir() and not entry.name.startswith("."))
    if not names:
        raise FileNotFoundError(f"{who}: expected class folders in {folder}, found none.")
    entries = {name: [entry.name for entry in os.scandir(folder / name)] for name in names}
    pictures = {name: sorted(file for file in files if is_image_name(file)) for name, files in entries.items()}
    passed = sum(map(len, entries.values())) - sum(map(len, pictures.values()))
    notes = [f"{who}: {passed} entries of the class folders in {folder} are no pictures and were passed over."]
    return pictures, notes if passed else []


def _marker(facts: Facts, place: Place) -> str:
    """The folder that tells that the pictures are there."""
    if facts.layout == "imagenet":
        return f"{place.images}/train"
    return facts.needs[0] if place.images == "." else place.images
