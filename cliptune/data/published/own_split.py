"""A split of one's own where the published split file is missing: the field's rule on official lists or folders.

Source: the fallback of CoOp's code (arXiv:2109.01134). It shuffles unsorted listings by a global generator and cannot
    be repeated on another machine; here listings are sorted and the generator is the split's own.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path, PurePosixPath

from cliptune.data.items import Dataset, Item, Split
from cliptune.data.own.naming import class_name, relative_path, require_files
from cliptune.data.published.annotations import (
    json_object,
    mat_fields,
    mat_numbers,
    mat_texts,
    text_lines,
    whole_number,
)
from cliptune.data.published.facts import Facts
from cliptune.data.published.places import class_folders
from cliptune.data.splits import split_trainval, stratified
from cliptune.noted import few
from cliptune.reading import shown


def own_split(facts: Facts, folder: Path, images: Path, seed: int, who: str) -> Dataset:
    """The data set split with `seed`; a note marks it as not the field's split.

    Raises: FileNotFoundError for missing label files or pictures; ValueError for label files of another form.
    """
    official = _OFFICIAL.get(str(facts.fallback))
    if official is not None:
        trainval, tested = official(folder, who)
        train_at, val_at = split_trainval([item.label for item in trainval], seed)
        parts = [[trainval[i] for i in train_at], [trainval[i] for i in val_at], tested]
        passed: list[str] = []
    else:
        items, passed = (_flowers(folder, who), []) if facts.fallback == "flowers" else _folders(facts, images, who)
        parts = [[items[i] for i in at] for at in stratified([item.label for item in items], seed)]
    names = {item.label: item.class_name for part in parts for item in part}
    if set(names) != set(range(len(names))):
        gap = next(label for label in range(len(names) + 1) if label not in names)
        raise ValueError(f"{who}: the label files list no picture of class {gap + 1}. Fetch them again.")
    require_files(images, (item.path for part in parts for item in part), who)
    note = (
        f"{who}: split here with seed {seed}, since {facts.split_file} is missing. This is not the field's split: "
        "numbers are not comparable with published ones."
    )
    train, val, test = (Split.of_files(images, part) for part in parts)
    ordered = tuple(names[label] for label in range(len(names)))
    notes = (note, *passed)
    return Dataset(facts.name, ordered, train, val, test, facts.template, images, notes=notes, own_split=True)


def _folders(facts: Facts, images: Path, who: str) -> tuple[list[Item], list[str]]:
    """Labels follow the sorted folder names as they are on disk, capitals first; the spoken name may differ.

    Returns: the pictures, and what was passed over or renamed, as sentences.
    """
    folders, notes = class_folders(images, who)
    found = {raw: files for raw, files in folders.items() if raw not in facts.ignored}
    notes += ignored_note(who, folders.keys() - found.keys())
    notes += renamed_note(who, [(raw, facts.renamed[raw]) for raw in found if raw in facts.renamed])
    items = [
        Item(f"{raw}/{file}", label, facts.renamed.get(raw, class_name(raw)))
        for label, (raw, files) in enumerate(found.items())
        for file in files
    ]
    return items, notes


def ignored_note(who: str, names: Iterable[str]) -> list[str]:
    """A sentence on class folders that do not count, if there are any."""
    ordered = sorted(names)
    return [f"{who}: {few(ordered)} is left out of the classes, as in the field."] if ordered else []


def renamed_note(who: str, pairs: Sequence[tuple[str, str]]) -> list[str]:
    """A sentence on classes that are said in other words, if there are any; pairs of old and new name."""
    said = [f"{old!r} as {new!r}" for old, new in pairs]
    return [f"{who}: {len(said)} classes are read in the field's other words: {few(said)}."] if said else []


def _flowers(folder: Path, who: str) -> list[Item]:
    """The n-th label belongs to `image_<n>.jpg`; labels count from 1 and so do the keys of `cat_to_name.json`."""
    labels = mat_numbers(folder / "imagelabels.mat", "labels", who)
    names = json_object(folder / "cat_to_name.json", who)
    unnamed = sorted({label for label in labels if not isinstance(names.get(str(label)), str)})
    if unnamed:
        raise ValueError(f"{who}: cat_to_name.json has no name for class {unnamed[0]}. Fetch it again.")
    return [
        Item(f"image_{i:05d}.jpg", label - 1, class_name(names[str(label)])) for i, label in enumerate(labels, start=1)
    ]


def _pets(folder: Path, who: str) -> tuple[list[Item], list[Item]]:
    """Lines "Abyssinian_100 1 1 1": picture, class from 1, species, breed within it."""

    def listed(file: str) -> list[Item]:
        items = []
        for line in text_lines(folder / "annotations" / file, who):
            if line.startswith("#"):
                continue
            words = line.split(" ")
            if len(words) < 2 or not _counts(words[1]) or "_" not in words[0]:
                raise ValueError(
                    f"{who}: {file} has the line {shown(line)!r}; expected a picture and its class number. Fetch the "
                    "file again."
                )
            path = relative_path(f"{words[0]}.jpg", f"{who}, {file}")
            items.append(Item(path, int(words[1]) - 1, class_name(words[0].rpartition("_")[0].lower())))
        return items

    return listed("trainval.txt"), listed("test.txt")


def _cars(folder: Path, who: str) -> tuple[list[Item], list[Item]]:
    """Annotations count classes from 1; the year at the end of a name moves to its front."""
    names = mat_texts(folder / "devkit" / "cars_meta.mat", "class_names", who)

    def listed(pictures: str, file: str) -> list[Item]:
        items = []
        for picture, number in mat_fields(folder / file, "annotations", ("fname", "class"), who):
            number = whole_number(number, f"{who}: {file}")
            if number > len(names):
                raise ValueError(f"{who}: {file} names class {number}; cars_meta.mat has 1 to {len(names)}.")
            path = relative_path(f"{pictures}/{picture}", f"{who}, {file}")
            items.append(Item(path, number - 1, class_name(year_first(names[number - 1]))))
        return items

    return listed("cars_train", "devkit/cars_train_annos.mat"), listed("cars_test", "cars_test_annos_withlabels.mat")


def _sun(folder: Path, who: str) -> tuple[list[Item], list[Item]]:
    """Labels are lines of `ClassName.txt` ("/a/apse/indoor"); spoken "indoor apse"."""
    label = {line.lstrip("/"): i for i, line in enumerate(text_lines(folder / "ClassName.txt", who))}

    def listed(file: str) -> list[Item]:
        items = []
        for line in text_lines(folder / file, who):
            path = PurePosixPath(relative_path(line.lstrip("/"), f"{who}, {file}"))
            scene = str(path.parent)
            if scene not in label:
                raise ValueError(f"{who}: {file} has the line {shown(line)!r}, whose folder is not in ClassName.txt.")
            items.append(Item(str(path), label[scene], class_name(" ".join(reversed(scene.split("/")[1:])))))
        return items

    return listed("Training_01.txt"), listed("Testing_01.txt")


def _ucf(folder: Path, who: str) -> tuple[list[Item], list[Item]]:
    """Labels are the numbers of `classInd.txt`, which is not the sorted order of the folders of mid-frames."""
    lists = folder / "ucfTrainTestlist"
    pairs = [line.split(" ") for line in text_lines(lists / "classInd.txt", who)]
    if any(len(pair) != 2 or not _counts(pair[0]) for pair in pairs):
        raise ValueError(f"{who}: classInd.txt must have lines of a number and an action. Fetch it again.")
    label = {action: int(number) - 1 for number, action in pairs}

    def listed(file: str) -> list[Item]:
        items = []
        for line in text_lines(lists / file, who):
            action, _, video = line.split(" ")[0].partition("/")
            if action not in label:
                raise ValueError(f"{who}: {file} has the line {shown(line)!r}, whose action is not in classInd.txt.")
            words = underscored(action)
            path = relative_path(f"{words}/{video.removesuffix('.avi')}.jpg", f"{who}, {file}")
            items.append(Item(path, label[action], class_name(words)))
        return items

    return listed("trainlist01.txt"), listed("testlist01.txt")


def _counts(word: str) -> bool:
    """Whether a word is a number that counts from 1."""
    return word.isdecimal() and len(word) < 10 and int(word) > 0


def year_first(name: str) -> str:
    """ "Acura RL Sedan 2012" → "2012 Acura RL Sedan"."""
    rest, _, year = name.strip().rpartition(" ")
    return f"{year} {rest}"


def underscored(action: str) -> str:
    """ "YoYo" → "Yo_Yo": split at capitals."""
    return "_".join(re.findall("[A-Z][^A-Z]*", action))


_OFFICIAL: dict[str, Callable[[Path, str], tuple[list[Item], list[Item]]]] = {
    "pets": _pets,
    "cars": _cars,
    "sun": _sun,
    "ucf": _ucf,
}
