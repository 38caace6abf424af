"""What every list of pictures comes down to: rows of a picture, a class and, if it is given, a split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from cliptune.data.items import SPLITS, Dataset, Item, Split
from cliptune.data.own.naming import class_labels, class_name
from cliptune.data.own.stored import StoredPicture, StoredSource
from cliptune.data.splits import stratified
from cliptune.noted import few, spoken_names
from cliptune.reading import listed, shown


class Row(NamedTuple):
    """One labelled picture.

    Args:
        where: what a sentence on it begins with, such as "Data list x.csv, line 3".
        path: as it is written there; after `Finder.rows` relative to the root, POSIX.
        raw_class: the class as it is written.
        split: train, val or test; None if nothing says so.
    """

    where: str
    path: str
    raw_class: str
    split: str | None


@dataclass
class Content:
    """What one file holds.

    Args:
        rows: in its order.
        notes: sentences for the user on what was passed over or decided.
        pictures: of each row, where they lie in the file itself; None if the rows name files.
        uploads: names may begin with eight digits that the tool put before them.
        says_splits: the file itself says which row is in which split, or that there is none; else names of files do.
        without_splits: how it is said that it names none.
    """

    rows: list[Row]
    notes: list[str] = field(default_factory=list)
    pictures: list[StoredPicture] | None = None
    uploads: bool = False
    says_splits: bool = False
    without_splits: str = "it names no splits"


@dataclass(frozen=True)
class Wanted:
    """How a data set is made of rows; the arguments are those of `read_folder`.

    Args:
        said: "columns" and "delimiter", where they were said.
    """

    name: str
    template: str
    split_seed: int
    fractions: Sequence[float]
    exif: bool
    said: Mapping[str, Any]


def dataset_of(content: Content, root: Path, who: str, shown_name: str, wanted: Wanted) -> Dataset:
    """The data set that the rows list; without splits it is split here (`stratified`).

    Args:
        content: rows whose paths are relative to `root`, or with their pictures.
        root: folder of the files.
        who: begins the errors.
        shown_name: begins the notes.
    Raises: ValueError, with the row, for a picture listed twice, splits for some rows only, a class without training
        pictures, or two class names that read alike.
    """
    rows, notes = content.rows, list(content.notes)
    if not rows:
        raise ValueError(f"{who}: the list has no rows. Write one line per picture.")
    if not content.says_splits:
        rows, said = _whole_splits(rows, shown_name)
        notes += said
    check_rows(rows, who)
    labels = class_labels((row.raw_class for row in rows), who)
    items = [Item(row.path, labels[row.raw_class], class_name(row.raw_class)) for row in rows]
    everything = (
        Split.of_files(root, items, exif=wanted.exif)
        if content.pictures is None
        else Split(items, StoredSource(content.pictures, exif=wanted.exif))
    )
    if rows[0].split is None:
        cut = stratified([item.label for item in items], wanted.split_seed, wanted.fractions)
        notes.insert(
            0,
            f"{shown_name}: {content.without_splits}, so the {len(items)} pictures were split with seed "
            f"{wanted.split_seed} into {len(cut[0])} train, {len(cut[1])} val, {len(cut[2])} test.",
        )
    else:
        by_split = [[i for i, row in enumerate(rows) if row.split == split] for split in SPLITS]
        cut = (by_split[0], by_split[1], by_split[2])
    train, val, test = (everything.subset(indices) for indices in cut)
    names = tuple(class_name(raw) for raw in labels)
    notes += spoken_names(shown_name, list(labels), names)
    return Dataset(
        wanted.name,
        names,
        train,
        val,
        test,
        wanted.template,
        root if content.pictures is None else None,
        notes=tuple(notes),
        read_with=wanted.said or None,
    ).with_gaps_noted()


def _whole_splits(rows: list[Row], who: str) -> tuple[list[Row], list[str]]:
    """Splits that names of files and folders told: val serves as test where there is none, train alone is no split."""
    there = {row.split for row in rows}
    if there == {"train"}:
        return [row._replace(split=None) for row in rows], []
    if there == {"train", "val"}:
        said = f"{who}: there are no test pictures, so val serves as the test split; no images are left to select on."
        return [row._replace(split="test") if row.split == "val" else row for row in rows], [said]
    return rows, []


def check_rows(rows: list[Row], who: str) -> None:
    """Raises: ValueError for a picture listed twice, a split for some rows only, or a class without training rows."""
    first: dict[str, Row] = {}
    for row in rows:
        if row.path in first:
            raise ValueError(
                f"{row.where}: {shown(row.path)} is already listed ({first[row.path].where}). List it once."
            )
        first[row.path] = row
        if (row.split is None) != (rows[0].split is None):
            raise ValueError(f"{row.where}: some rows have a split and others none. Give it to all or to none.")
    if rows[0].split is not None:
        trained = {row.raw_class for row in rows if row.split == "train"}
        untrained = sorted({row.raw_class for row in rows} - trained)
        if untrained:
            raise ValueError(
                f"{who}: {len(untrained)} classes have no training picture: {listed(untrained)}. "
                "Add a row with split train for each."
            )


def passed_over(who: str, places: Sequence[str], why: str) -> list[str]:
    """A note on pictures that were left out, with the first of them; [] if there are none."""
    if not places:
        return []
    many = f"{len(places)} pictures were" if len(places) > 1 else "1 picture was"
    return [f"{who}: {many} passed over, {why}: {few(map(shown, places))}."]
