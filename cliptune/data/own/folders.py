"""Users' own folders of pictures: class folders, alone or below train / val / test."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from cliptune.data.formats import BY_SUFFIX, decodable, how_to_read, undecodable
from cliptune.data.images import SUFFIXES, is_image_name
from cliptune.data.items import DEFAULT_TEMPLATE, Dataset, Item, Split
from cliptune.data.own.naming import SPLIT_NAMES, class_labels, class_name
from cliptune.data.own.nested import NESTED, by_nesting
from cliptune.data.splits import FRACTIONS, stratified
from cliptune.noted import few, spoken_names

IGNORED_FOLDERS = frozenset({"__MACOSX", "__pycache__"})
LEFT_BEHIND = frozenset({"thumbs.db", "desktop.ini"})
"""Files of Windows in folders of pictures, in lower case."""
MOST_NAMED = 20
"""Pictures of one kind that are named before "and so many more"."""


def read_folder(
    root: str | Path,
    *,
    name: str | None = None,
    template: str = DEFAULT_TEMPLATE,
    split_seed: int = 1,
    fractions: Sequence[float] = FRACTIONS,
    exif: bool = True,
    nested: str | None = None,
) -> Dataset:
    """A data set out of a folder in one of two layouts.

        photos/red_fox/*.jpg …                     class folders; split here, see `stratified`
        photos/train/red_fox/*.jpg … test/ … val/  split by the user (also training, valid, validation,
        testing)

    A class is a folder; its name is the class name with underscores as spaces, labels count in sorted order
    of the folder names. Pictures are all files with a picture's suffix below it, sub-folders included, sorted
    by path, links followed; hidden and side-car files (`._*`, `.DS_Store`) and other files are passed over; of
    what might have been pictures or classes a note says how many. If there is train and val but no test, val is
    the test split (and none is left to select a model on); with train alone, train is split.

    Args:
        root: the folder.
        name: what tables call it; by default the folder's name.
        template: text with one "{}".
        split_seed: of the split that is made here.
        fractions: train, val and test share of that split; 0.5, 0.2, 0.3 by default.
        exif: turn pictures as their EXIF tag says (True for one's own photographs).
        nested: where class folders hold folders: "top", the upper ones are the classes; "leaf", every folder that holds
            pictures itself is a class of its own name, and folders of one name are one class. None is "top", which a
            note then says.
    Raises: FileNotFoundError / NotADirectoryError for the folder; ValueError if there is no class, an empty
        class, a class without training pictures, pictures beside the class folders, or two names that read
        alike.
    """
    if nested not in (None, *NESTED):
        raise ValueError(f"Data folder {root}: nested must be {' or '.join(NESTED)}, got {nested!r}.")
    root = Path(root).expanduser()
    if not root.exists():
        raise FileNotFoundError(
            f"Data folder {root}: expected a folder of class folders, found nothing. Check the path."
        )
    if not root.is_dir():
        raise NotADirectoryError(f"Data folder {root}: expected a folder of class folders, found a file.")
    name = name or root.resolve().name
    parts, notes = _parts(root)
    found: dict[str, dict[str, list[str]]] = {}
    passed = _Passed(root)
    for split, folder in parts.items():
        found[split] = _class_folders(root, folder, passed)
    notes += passed.notes()
    found, said = by_nesting(found, parts, root, nested)
    notes += said
    notes += _check_classes(root, found, passed)
    labels = class_labels((raw for classes in found.values() for raw in classes), f"Data folder {root}")
    items = {
        split: [Item(path, labels[raw], class_name(raw)) for raw in sorted(classes) for path in classes[raw]]
        for split, classes in found.items()
    }
    if "test" not in items:
        cut = stratified([item.label for item in items["train"]], split_seed, fractions)
        notes.append(
            f"{root}: there is no test folder, so the {len(items['train'])} pictures were split with seed "
            f"{split_seed} into {len(cut[0])} train, {len(cut[1])} val, {len(cut[2])} test."
        )
        everything = Split.of_files(root, items["train"], exif=exif)
        train, val, test = (everything.subset(indices) for indices in cut)
    else:
        train, val, test = (Split.of_files(root, items.get(s, []), exif=exif) for s in ("train", "val", "test"))
    names = tuple(class_name(raw) for raw in labels)
    notes += spoken_names(str(root), list(labels), names)
    data = Dataset(name, names, train, val, test, template, root, notes=tuple(notes), unread=passed.unread())
    return replace(data, nested=nested).with_gaps_noted()


@dataclass
class _Passed:
    """What was passed over below `root`, by kind; files by their paths relative to it.

    Args:
        other: visible files in class folders without a picture's suffix; beside: files beside the class folders.
        hidden: pictures whose names begin with a dot. again: folders that a link leads to once more.
        folders: names of hidden folders, and of those that programs leave behind.
        closed: kind of picture that cannot be decoded here → its files.
    """

    root: Path
    other: list[str] = field(default_factory=list)
    beside: int = 0
    hidden: list[str] = field(default_factory=list)
    again: int = 0
    folders: list[str] = field(default_factory=list)
    closed: dict[str, list[str]] = field(default_factory=dict)

    def notes(self) -> list[str]:
        other, hidden = len(self.other), len(self.hidden)
        said = (
            *((len(files), _closed(kind, sorted(files))) for kind, files in sorted(self.closed.items())),
            (other, _some(other, "file", "without a picture's suffix") + f" passed over: {_by_suffix(self.other)}."),
            (self.beside, _some(self.beside, "file", "beside the class folders") + " passed over."),
            (hidden, _some(hidden, "picture", "") + " passed over, because of a dot before the name."),
            (self.again, _some(self.again, "folder", "that a link leads to once more") + " not read again."),
            (len(self.folders), f"hidden folders, and folders of programs, were passed over: {few(self.folders)}."),
        )
        return [f"{self.root}: {sentence}" for n, sentence in said if n]

    def unread(self) -> tuple[str, ...]:
        """Files in class folders that might have been meant as pictures."""
        closed = [file for files in self.closed.values() for file in files]
        other = [file for file in self.other if Path(file).name.lower() not in LEFT_BEHIND]
        return tuple(sorted([*closed, *other, *self.hidden]))


def _some(n: int, what: str, which: str) -> str:
    """So many of them, with a verb: "1 file beside it was", "2 files beside it were"."""
    return " ".join(filter(None, (f"{n:,}", what if n == 1 else f"{what}s", which, "was" if n == 1 else "were")))


def _closed(kind: str, files: list[str]) -> str:
    return (
        _some(len(files), "picture", f"of the kind {kind}") + " passed over, since nothing here decodes this kind: "
        f"{few(files, MOST_NAMED)}. {how_to_read(kind)}"
    )


def _by_suffix(files: list[str]) -> str:
    counts = Counter(Path(file).suffix.lower() or "no suffix" for file in files)
    return few((f"{n} {suffix}" for suffix, n in sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))), 5)


def _parts(root: Path) -> tuple[dict[str, Path], list[str]]:
    """Split → folder of class folders; a folder of class folders alone counts as train."""
    folders = {path.name: path for path in _subfolders(root)}
    named: dict[str, Path] = {}
    alike: list[str] = []
    for folder_name, path in folders.items():
        split = SPLIT_NAMES.get(folder_name.lower())
        if split is None or not _subfolders(path):
            alike += [] if split is None else [folder_name]
            continue  # a folder "train" that holds pictures and no folders is a class: photographs of trains
        if split in named:
            raise ValueError(
                f"Data folder {root}: {named[split].name} and {folder_name} both name the {split} split. Keep one."
            )
        named[split] = path
    if "train" not in named:
        if named:
            raise ValueError(
                f"Data folder {root}: found {', '.join(path.name for path in named.values())} with class "
                "folders, but no train folder. Add train/, or give a folder of class folders."
            )
        spoken = f"{root}: {few(alike)} is read as a class and no split, because there are no folders in it."
        return {"train": root}, [spoken] if alike else []
    notes = []
    others = [folder_name for folder_name, path in folders.items() if path not in named.values()]
    if others:
        notes.append(f"{root}: beside the splits, these folders were passed over: {', '.join(others)}.")
    if "test" not in named and "val" in named:
        named["test"] = named.pop("val")
        notes.append(
            f"{root}: there is no test folder, so {named['test'].name} serves as the test split; no images "
            "are left to select a model on."
        )
    return {split: named[split] for split in ("train", "val", "test") if split in named}, notes


def _class_folders(root: Path, folder: Path, passed: _Passed) -> dict[str, list[str]]:
    """Class folder name → sorted paths relative to root; what is passed over is counted."""
    loose = sorted(entry.name for entry in folder.iterdir() if entry.is_file() and is_image_name(entry.name))
    if loose:
        raise ValueError(
            f"Data folder {folder}: expected one folder per class, found {len(loose)} pictures beside them "
            f"({loose[0]} …). Move each into the folder of its class, or list them in a CSV file."
        )
    entries = list(folder.iterdir())
    passed.beside += sum(entry.is_file() and not entry.name.startswith(".") for entry in entries)
    passed.folders += sorted(entry.name for entry in entries if entry.is_dir() and _is_left_out(entry.name))
    classes = {}
    for class_folder in _subfolders(folder):
        pictures = _pictures(class_folder, passed)
        classes[class_folder.name] = [str((class_folder / path).relative_to(root).as_posix()) for path in pictures]
    return classes


def _check_classes(root: Path, found: dict[str, dict[str, list[str]]], passed: _Passed) -> list[str]:
    """Refuse what cannot be trained on, drop empty folders of the other splits; a sentence for each split of these."""
    train = found["train"]
    if not train:
        raise ValueError(
            f"Data folder {root}: found no class folder. Expected one folder per class with pictures in it."
        )
    empty = sorted(raw for raw, paths in train.items() if not paths)
    if empty:
        raise ValueError(
            f"Data folder {root}: {len(empty)} class folders hold no picture: {', '.join(empty[:5])}. "
            "Add pictures (.jpg, .png, …) or remove the folders."
            + "".join(f" {_closed(kind, sorted(files))}" for kind, files in sorted(passed.closed.items()))
        )
    unknown = sorted({raw for classes in found.values() for raw, paths in classes.items() if paths} - set(train))
    if unknown:
        raise ValueError(
            f"Data folder {root}: {len(unknown)} classes have no training picture: {', '.join(unknown[:5])}. "
            "Add them to train, or remove them from the other splits."
        )
    notes = []
    for split, classes in found.items():
        without = sorted(raw for raw, paths in classes.items() if not paths)
        if without:
            notes.append(f"{root}: {len(without)} class folders of {split} hold no picture: {few(without)}.")
        found[split] = {raw: paths for raw, paths in classes.items() if paths}
    return notes


def _is_left_out(folder_name: str) -> bool:
    return folder_name.startswith(".") or folder_name in IGNORED_FOLDERS


def _subfolders(folder: Path) -> list[Path]:
    found = [entry for entry in folder.iterdir() if entry.is_dir() and not _is_left_out(entry.name)]
    return sorted(found, key=lambda entry: entry.name)


def _pictures(folder: Path, passed: _Passed) -> list[str]:
    """Sorted POSIX paths of the pictures below `folder`, relative to it; what is passed over is counted."""
    found: list[str] = []
    entered: set[str] = set()
    for here, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(here)
        if real in entered:  # a link that leads back up
            folders.clear()
            passed.again += 1
            continue
        entered.add(real)
        passed.folders += sorted(f for f in folders if _is_left_out(f))
        folders[:] = sorted(f for f in folders if not _is_left_out(f))
        for file in files:
            path = Path(here) / file
            inside = path.relative_to(passed.root).as_posix()
            if is_image_name(file):
                closed = _undecodable(path)
                if closed is None:
                    found.append(path.relative_to(folder).as_posix())
                else:
                    passed.closed.setdefault(closed, []).append(inside)
            elif not file.startswith("."):
                passed.other.append(inside)
            elif path.suffix.lower() in SUFFIXES:
                passed.hidden.append(inside)
    return sorted(found)


def _undecodable(path: Path) -> str | None:
    """The kind of a picture whose decoder is not installed, as its name says and its content confirms."""
    by_name = BY_SUFFIX.get(path.suffix.lower())
    if by_name is None or decodable(by_name):
        return None  # the others are not opened here: there may be a million
    return undecodable(path)
