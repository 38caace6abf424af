"""ImageNet and its variants: folders of WordNet ids, named by `classnames.txt`."""

from __future__ import annotations

from pathlib import Path

from cliptune.data.items import Item
from cliptune.data.own.naming import class_name
from cliptune.data.published.annotations import text_lines
from cliptune.data.published.facts import Facts
from cliptune.data.published.places import class_folders
from cliptune.reading import shown

NAMES_FILE = "classnames.txt"

Found = tuple[tuple[str, ...], dict[str, list[Item]], tuple[str, ...]]


def imagenet_items(folder: Path, images: str, who: str) -> Found:
    """Train and test of ImageNet; labels are ranks of the sorted ids, file names are sorted.

    The field's code takes the file system's order instead, so its few-shot picks differ from machine to machine. The
    validation pictures are the test split and none are left to select a model on.

    Raises: FileNotFoundError, ValueError if folders and `classnames.txt` name different classes.
    """
    names, notes = wordnet_names(folder, who)
    items = {}
    for split, part in (("train", "train"), ("test", "val")):
        found, passed = class_folders(folder / images / part, who)
        notes += passed
        _check_ids(set(found), set(names), f"{who}, {images}/{part}")
        items[split] = [
            Item(f"{part}/{wnid}/{file}", label, names[wnid])
            for label, wnid in enumerate(sorted(names))
            for file in found[wnid]
        ]
    notes.insert(0, f"{who}: images/val is the test split, as in the field; no pictures are left to select a model on.")
    return tuple(names[wnid] for wnid in sorted(names)), items, tuple(notes)


def shifted_items(facts: Facts, folder: Path, images: str, who: str) -> Found:
    """The test pictures of a variant of ImageNet.

    ImageNetV2's folders are label numbers ("10" is 10, though it sorts before "2"); Sketch has all ids; A and R have
    200 of them, which get the labels 0 … 199 and whose names alone form the classifier.
    """
    names, notes = wordnet_names(folder, who)
    found, passed = class_folders(folder / images, who)
    notes += passed
    if facts.name == "imagenetv2":
        ids = sorted(names)
        if set(found) != {str(i) for i in range(len(ids))}:
            odd = sorted(set(found) ^ {str(i) for i in range(len(ids))})[0]
            raise ValueError(
                f"{who}: expected the folders 0 to {len(ids) - 1} in {folder / images}, one for each line of "
                f"{NAMES_FILE}, but {odd!r} is missing or too many. Extract the archive again."
            )
        order = [str(i) for i in range(len(ids))]
        spoken = tuple(names[wnid] for wnid in ids)
    else:
        order = sorted(found)
        _check_ids(set(found), set(names) if facts.classes == 1000 else set(names) & set(found), f"{who}, {images}")
        spoken = tuple(names[wnid] for wnid in order)
        if len(order) < len(names):
            notes.append(f"{who}: of the {len(names)} names in {NAMES_FILE} the {len(order)} with a folder are asked.")
    items = [Item(f"{raw}/{file}", label, spoken[label]) for label, raw in enumerate(order) for file in found[raw]]
    return spoken, {"test": items}, tuple(notes)


def wordnet_names(folder: Path, who: str) -> tuple[dict[str, str], list[str]]:
    """WordNet id → class name; a variant without its own file takes that of `imagenet/` beside it, and a note says so.

    Names are no keys: "missile" and "sunglasses" occur twice.
    """
    beside = (folder.parent / "imagenet" / NAMES_FILE, folder.parent / "ImageNet" / NAMES_FILE)
    path = next((path for path in (folder / NAMES_FILE, *beside) if path.is_file()), folder / NAMES_FILE)
    names: dict[str, str] = {}
    for line in text_lines(path, who):
        wnid, _, name = line.partition(" ")
        if not name or wnid in names:
            raise ValueError(
                f"{who}: {path} has the line {shown(line)!r}; expected a WordNet id, a blank and a class name, each id "
                "once. Fetch the file again."
            )
        names[wnid] = class_name(name)
    return names, [f"{who}: the class names are those of {path}."] if path.parent != folder else []


def _check_ids(found: set[str], expected: set[str], who: str) -> None:
    for odd, what in ((expected - found, "is not there"), (found - expected, f"is not in {NAMES_FILE}")):
        if odd:
            raise ValueError(
                f"{who}: class folders and {NAMES_FILE} must name the same classes, but {shown(sorted(odd)[0])} {what} "
                f"({len(odd)} such). Extract the archive again, or correct {NAMES_FILE}."
            )
