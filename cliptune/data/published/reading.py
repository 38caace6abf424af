"""Published data sets by name, read from where they lie."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from cliptune.data.items import SPLITS, Dataset, Item, Split
from cliptune.data.own.naming import class_name, require_files
from cliptune.data.own.split_files import read_split
from cliptune.data.published.aircraft import aircraft_items
from cliptune.data.published.facts import Facts, Place, facts
from cliptune.data.published.imagenet import imagenet_items, shifted_items
from cliptune.data.published.own_split import own_split, renamed_note
from cliptune.data.published.places import locate


def read_published(
    name: str,
    root: str | Path | None = None,
    *,
    template: str | None = None,
    split: str | Path | None = None,
    make_split: bool = False,
    split_seed: int = 1,
    check_files: bool = True,
) -> Dataset:
    """A published data set out of the folders that the field uses; nothing is written there.

    Args:
        name: any spelling of its name.
        root: folder that holds the data sets, or the data set's own folder.
        template: text with one "{}"; by default the field's hand-written one.
        split: another split file than the published one's place.
        make_split: where the split file is missing, split the official lists or folders by the field's rule, which is
            not the field's split: numbers on it cannot be compared with published ones, and a note says so.
        split_seed: of that split.
        check_files: look that every listed picture is there.
    Returns: the data set, named `name` as in the listing; pictures are not turned by their EXIF tag, as in the field.
    Raises: ValueError for an unknown name, a wrong file, or an option that the data set has no use for;
        FileNotFoundError for folders, label files and pictures that are not there.
    """
    known = facts(name)
    folder, place = locate(known, root)
    if known.layout != "split" and (split is not None or make_split):
        raise ValueError(
            f"Data set {known.name} comes with its own split, so split and make_split have no use here. Leave them out."
        )
    if known.layout == "split":
        dataset = _by_split_file(known, folder, place, split, make_split, split_seed, check_files)
    else:
        names, items, notes = _by_layout(known, folder, place)
        images = folder / place.images
        if check_files and known.layout == "aircraft":
            require_files(images, (item.path for listed in items.values() for item in listed), _who(known))
        train, val, test = (Split.of_files(images, items.get(split_name, ())) for split_name in SPLITS)
        dataset = Dataset(known.name, names, train, val, test, known.template, images, notes=notes)
    dataset = class_count_noted(dataset, known)
    return dataset if template is None else replace(dataset, template=template)


def class_count_noted(dataset: Dataset, known: Facts) -> Dataset:
    """With a note if it has not as many classes as the published one."""
    came, expected = len(dataset.class_names), known.classes
    if came == expected:
        return dataset
    note = f"{_who(known)}: {came} classes were found, the published data set has {expected}."
    return replace(dataset, notes=(*dataset.notes, note))


def split_path(known: Facts, folder: Path, split: str | Path | None = None) -> Path:
    """Where the split file is looked for."""
    return Path(split).expanduser() if split is not None else folder / str(known.split_file)


def checksum_note(known: Facts, path: Path) -> str | None:
    """A sentence if a split file differs in its bytes from the known copy, which alone is no error."""
    if known.split_sha256 is None or hashlib.sha256(path.read_bytes()).hexdigest() == known.split_sha256:
        return None
    return (
        f"{path.name} differs from the copy whose checksum is known. It may only be formatted in another way; if its "
        "content differs, few-shot picks and numbers are not comparable with published ones."
    )


def _by_layout(known: Facts, folder: Path, place: Place) -> tuple[tuple[str, ...], Mapping[str, list[Item]], tuple]:
    if known.layout == "aircraft":
        return aircraft_items(folder, _who(known))
    if known.layout == "imagenet":
        return imagenet_items(folder, place.images, _who(known))
    return shifted_items(known, folder, place.images, _who(known))


def _by_split_file(
    known: Facts,
    folder: Path,
    place: Place,
    split: str | Path | None,
    make_split: bool,
    split_seed: int,
    check_files: bool,
) -> Dataset:
    images, path = folder / place.images, split_path(known, folder, split)
    if not path.is_file() and make_split:
        return own_split(known, folder, images, split_seed, _who(known))
    if not path.is_file():
        raise FileNotFoundError(
            f"{_who(known)}: expected the split file {path}, found nothing. Fetch it from {known.split_from}, or ask "
            "for a split of your own (make_split=True, --make-split), whose numbers are not comparable with published "
            "ones."
        )
    dataset = read_split(path, images, name=known.name, template=known.template, check_files=check_files)
    note = checksum_note(known, path) if split is None else f"{_who(known)}: the split is that of {path}."
    noted = replace(dataset, notes=(*dataset.notes, *([note] if note else [])), own_split=split is not None)
    return _renamed(noted, known.renamed, _who(known))


def _renamed(dataset: Dataset, renamed: Mapping[str, str], who: str) -> Dataset:
    """Old copies of a split file use the folders' names; newer ones hold the spoken names already."""
    spoken = {class_name(raw): new for raw, new in renamed.items()}
    if not spoken.keys() & set(dataset.class_names):
        return dataset

    def renewed(split: Split) -> Split:
        items = [replace(item, class_name=spoken.get(item.class_name, item.class_name)) for item in split.items]
        return Split(items, split.source, split.rows)

    names = tuple(spoken.get(name, name) for name in dataset.class_names)
    train, val, test = (renewed(dataset[split]) for split in SPLITS)
    said = renamed_note(who, [(name, spoken[name]) for name in dataset.class_names if name in spoken])
    return replace(dataset, class_names=names, train=train, val=val, test=test, notes=(*dataset.notes, *said))


def _who(known: Facts) -> str:
    return f"Data set {known.name}"
