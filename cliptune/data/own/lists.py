"""Users' own lists of pictures: CSV and JSON-lines files."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from cliptune.data.items import DEFAULT_TEMPLATE, SPLITS, Dataset, Item, Split
from cliptune.data.own.naming import SPLIT_NAMES, class_labels, class_name, relative_path, require_files
from cliptune.data.splits import FRACTIONS, stratified
from cliptune.noted import spoken_names
from cliptune.reading import content_of, json_value, listed, shown, utf8

LIST_SUFFIXES = (".csv", ".jsonl")

COLUMNS = {"image": "path", "path": "path", "label": "class", "class": "class", "split": "split"}
"""Accepted columns → what they mean."""


class _Row(NamedTuple):
    where: str
    path: str
    raw_class: str
    split: str | None


def read_list(
    path: str | Path,
    root: str | Path | None = None,
    *,
    name: str | None = None,
    template: str = DEFAULT_TEMPLATE,
    split_seed: int = 1,
    fractions: Sequence[float] = FRACTIONS,
    exif: bool = True,
) -> Dataset:
    """A data set out of a `.csv` file with a header line, or a `.jsonl` file with one object per line.

    Columns (or keys): `image` or `path`, the picture relative to the root; `label` or `class`, the class name
    in words (underscores are spaces); optionally `split`: train, val or test. With it pictures keep the order
    of the list, without it the list is split here (`stratified`). Labels count in sorted order of the names.

    Args:
        path: the list, UTF-8.
        root: folder that the pictures are relative to; by default the list's own.
        name, template, split_seed, fractions, exif: as in `read_folder`.
    Raises: FileNotFoundError for the list or listed pictures; ValueError, with the line, for an unknown or
        missing column, a blank value, an unknown split, a path that leaves the root, a picture listed twice,
        a class without training pictures, or two class names that read alike.
    """
    path = Path(path).expanduser()
    who = f"Data list {path}"
    if not path.is_file():
        raise FileNotFoundError(f"{who}: expected a .csv or .jsonl file, found nothing. Check the path.")
    if path.suffix.lower() not in LIST_SUFFIXES:
        raise ValueError(
            f"{who}: expected a .csv or .jsonl file, got {path.suffix or 'no suffix'!r}. Rename or convert it."
        )
    root = path.parent if root is None else Path(root).expanduser()
    blank: list[str] = []
    rows = [_row(where, record) for where, record in _records(path, who, blank)]
    if not rows:
        raise ValueError(f"{who}: the list has no rows. Write one line per picture.")
    _check_rows(rows, who)
    require_files(root, (row.path for row in rows), who)
    labels = class_labels((row.raw_class for row in rows), who)
    items = [Item(row.path, labels[row.raw_class], class_name(row.raw_class)) for row in rows]
    everything = Split.of_files(root, items, exif=exif)
    notes = []
    if rows[0].split is None:
        cut = stratified([item.label for item in items], split_seed, fractions)
        notes.append(
            f"{path.name}: there is no split column, so the {len(items)} pictures were split with seed "
            f"{split_seed} into {len(cut[0])} train, {len(cut[1])} val, {len(cut[2])} test."
        )
    else:
        by_split = [[i for i, row in enumerate(rows) if row.split == split] for split in SPLITS]
        cut = (by_split[0], by_split[1], by_split[2])
    if blank:
        notes.append(f"{path.name}: {len(blank)} blank lines were passed over.")
    train, val, test = (everything.subset(indices) for indices in cut)
    names = tuple(class_name(raw) for raw in labels)
    notes += spoken_names(path.name, list(labels), names)
    return Dataset(name or path.stem, names, train, val, test, template, root, notes=tuple(notes)).with_gaps_noted()


def _records(path: Path, who: str, blank: list[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """(where, column → value) of each row; where names the line. Blank lines are added to `blank`."""
    try:
        text = utf8(content_of(path))
    except ValueError as error:
        raise ValueError(f"{who}: expected UTF-8 text, but {error}. Save it as UTF-8, or cut it in pieces.") from error
    if path.suffix.lower() == ".csv":
        yield from _csv_records(text, who, blank)
        return
    # Not `splitlines`: a JSON text may hold the other characters that end a line for Python.
    for number, line in enumerate(text.split("\n"), 1):
        where = f"{who}, line {number}"
        if not line.strip():
            blank.append(where)
            continue
        try:
            record = json_value(line)
        except ValueError as error:
            raise ValueError(f"{where}: expected a JSON object, but {error}. Correct the line.") from error
        if not isinstance(record, dict):
            raise ValueError(f"{where}: expected a JSON object with image and class, got {type(record).__name__}.")
        _check_columns(list(record), where)
        yield where, record


def _csv_records(text: str, who: str, blank: list[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        header = [column.strip() for column in next(reader, [])]
        _check_columns(header, f"{who}, line 1")
        for fields in reader:
            where = f"{who}, line {reader.line_num}"
            if not any(field.strip() for field in fields):
                blank.append(where)
                continue
            if len(fields) != len(header):
                raise ValueError(
                    f"{where}: expected {len(header)} values ({listed(header)}), got {len(fields)}. "
                    "Put a value with a comma in it between double quotes."
                )
            yield where, dict(zip(header, fields, strict=True))
    except csv.Error as error:
        where = f"{who}, line {reader.line_num}"
        raise ValueError(f"{where}: no valid CSV ({error}). Check its quotes.") from error


def _check_columns(columns: list[str], where: str) -> None:
    meant = [COLUMNS.get(column) for column in columns]
    unknown = [column for column, meaning in zip(columns, meant, strict=True) if meaning is None]
    if unknown:
        raise ValueError(
            f"{where}: unknown column {shown(unknown[0])!r}. Expected image (or path), class (or label) and, if "
            "wanted, split."
        )
    for meaning, spoken in (("path", "image (or path)"), ("class", "class (or label)"), ("split", "split")):
        n = meant.count(meaning)
        if n > 1 or (n == 0 and meaning != "split"):
            raise ValueError(f"{where}: expected one column {spoken}, got {n}. The columns are {listed(columns)}.")


def _row(where: str, record: dict[str, Any]) -> _Row:
    wrong = next((value for value in record.values() if not (value is None or type(value) in (str, int))), None)
    if wrong is not None:
        raise ValueError(f"{where}: expected texts, got {shown(str(wrong))!r}. Put every value between double quotes.")
    values = {COLUMNS[column]: str(value).strip() for column, value in record.items() if value is not None}
    for meaning in ("path", "class"):
        if not values.get(meaning):
            raise ValueError(f"{where}: the {meaning} is blank. Give every row a picture and a class.")
    split = None
    if "split" in (COLUMNS[column] for column in record):
        split = SPLIT_NAMES.get(values.get("split", "").lower())
        if split is None:
            raise ValueError(f"{where}: split must be train, val or test, got {shown(values.get('split', ''))!r}.")
    return _Row(where, relative_path(values["path"], where), values["class"], split)


def _check_rows(rows: list[_Row], who: str) -> None:
    first: dict[str, _Row] = {}
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
