"""Users' own lists of pictures: tables as text, JSON lines, JSON lists of objects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cliptune.data.items import DEFAULT_TEMPLATE, Dataset
from cliptune.data.own.columns import Columns, asked_columns, choose
from cliptune.data.own.finder import Finder, common_root
from cliptune.data.own.naming import SPLIT_NAMES
from cliptune.data.own.rows import Content, Row, Wanted, dataset_of
from cliptune.data.own.tables import check_width, delimiter_meant, delimiter_of, has_header, table_rows
from cliptune.data.splits import FRACTIONS
from cliptune.reading import content_of, json_value, shown, utf8

LIST_SUFFIXES = (".csv", ".tsv", ".txt", ".jsonl")
"""What is called so is meant to be a list, even if it is not there."""


def read_list(
    path: str | Path,
    root: str | Path | None = None,
    *,
    columns: str | Mapping[str, str] | None = None,
    delimiter: str | None = None,
    name: str | None = None,
    template: str = DEFAULT_TEMPLATE,
    split_seed: int = 1,
    fractions: Sequence[float] = FRACTIONS,
    exif: bool = True,
) -> Dataset:
    """A data set out of a table (`.csv`, `.tsv`, `.txt` …, with a header line or without), JSON lines with one object
    each, or a JSON list of objects. What it is, its content tells.

    The picture stands in a column (or under a key) `image`, `path`, `file_name` and the like, or `id`; else in the
    only one that names files that are there. It is a path relative to the root, the end of one, a bare name or id
    without suffix that one picture below the root has, or an absolute path. The class stands in `label`, `class`,
    `category` and the like; else in the only column that is left; its underscores are spaces. A column `split` says
    train, val or test; with it pictures keep the order of the list, without it the list is split here
    (`stratified`). Labels count in sorted order of the names. Other columns are passed over; what was guessed stands
    in the notes.

    Args:
        path: the list, UTF-8.
        root: folder that the pictures are relative to; by default the list's own, or the common one of absolute
            paths.
        columns: which is which, `{"image": "id", "label": "breed"}` or "image=id,label=breed"; columns of a list
            without header line are called 1, 2, 3 ….
        delimiter: of a table, one character or comma, semicolon, tab, pipe, space; by default its first lines tell.
        name, template, split_seed, fractions, exif: as in `read_folder`.
    Raises: FileNotFoundError for the list or listed pictures; ValueError, with the line, for columns that could be
        several, a blank value, an unknown split, a path that leaves the root or fits several pictures, a picture
        listed twice, a class without training pictures, or two class names that read alike.
    """
    path = Path(path).expanduser()
    who = f"Data list {path}"
    if not path.is_file():
        raise FileNotFoundError(f"{who}: expected a list of pictures, found nothing. Check the path.")
    home = path.parent if root is None else Path(root).expanduser()
    content = rows_of_list(path, home, columns, delimiter, check_paths=root is None)
    root = home if root is not None else common_root(content.rows, home) or home
    content.rows, found = Finder(root, who).rows(content.rows)
    content.notes += found
    said: dict[str, Any] = {"columns": asked_columns(columns)} if columns else {}
    said |= {"delimiter": delimiter_meant(delimiter)} if delimiter else {}
    wanted = Wanted(name or path.stem, template, split_seed, fractions, exif, said)
    return dataset_of(content, root, who, path.name, wanted)


@dataclass
class _Records:
    """What stands in a list, before it is known which column is which.

    Args:
        columns: their names. rows: (where, column → value). first: where the columns are named.
    """

    columns: list[str]
    first: str
    rows: list[tuple[str, Mapping[str, Any]]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def rows_of_list(
    path: Path,
    home: Path,
    columns: str | Mapping[str, str] | None = None,
    delimiter: str | None = None,
    *,
    check_paths: bool = True,
) -> Content:
    """The rows of a list, their paths as they are written there.

    Args:
        home: folder that columns of pictures are recognised by.
        check_paths: whether absolute paths of this machine may tell a column of pictures, too.
    Raises: as `read_list`, for all but the pictures.
    """
    who = f"Data list {path}"
    asked = asked_columns(columns)
    finder = Finder(home, who)

    def is_picture(value: str) -> bool:
        return finder.has(value) or (check_paths and common_root([Row("", value, "", None)], home) is not None)

    text = _text(path, who)
    beginning = text.lstrip()[:1]
    if delimiter is None and beginning == "{":
        records = _json_lines(text, path, who)
    elif delimiter is None and beginning == "[":
        records = _json_list(text, who)
    else:
        records = _table(text, path, who, asked, delimiter, is_picture)
    sample = [record for _, record in records.rows]
    chosen = choose(records.columns, sample, asked, is_picture, records.first)
    rows = [_row(where, record, chosen) for where, record in records.rows]
    said = [note.replace(records.first, path.name, 1) for note in chosen.notes]
    notes = records.notes + said
    return Content(rows, notes, says_splits=True, without_splits="there is no split column")


def _text(path: Path, who: str) -> str:
    try:
        text = utf8(content_of(path))
    except ValueError as error:
        raise ValueError(f"{who}: expected UTF-8 text, but {error}. Save it as UTF-8, or cut it in pieces.") from error
    if "\0" in text:
        raise ValueError(f"{who}: expected a list of pictures as text, got binary content. Convert it to CSV.")
    return text


def _json_lines(text: str, path: Path, who: str) -> _Records:
    records = _Records([], f"{who}, line 1")
    blank = 0
    # Not `splitlines`: a JSON text may hold the other characters that end a line for Python.
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            where = f"{who}, line {number}"
            try:
                record = json_value(line)
            except ValueError as error:
                raise ValueError(f"{where}: expected a JSON object, but {error}. Correct the line.") from error
            _add(records, where, record)
        else:
            blank += number <= text.count("\n")
    records.notes += _blank_lines(path, blank)
    return records


def _json_list(text: str, who: str) -> _Records:
    try:
        content = json_value(text)
    except ValueError as error:
        raise ValueError(f"{who}: expected JSON, but {error}. Fetch or write the file again.") from error
    records = _Records([], f"{who}, entry 1")
    for number, record in enumerate(content, 1):
        _add(records, f"{who}, entry {number}", record)
    if not records.rows:
        raise ValueError(f"{who}: the list has no rows. Write one object per picture.")
    return records


def _add(records: _Records, where: str, record: Any) -> None:
    if not isinstance(record, dict):
        raise ValueError(f"{where}: expected a JSON object with image and class, got {type(record).__name__}.")
    known = set(records.columns)
    records.columns += [column for column in record if column not in known]
    records.rows.append((where, record))


def _table(
    text: str, path: Path, who: str, asked: Mapping[str, str], delimiter: str | None, is_picture: Any
) -> _Records:
    meant = delimiter_of(text) if delimiter is None else delimiter_meant(delimiter)
    lines = [(n, [field.strip() for field in fields]) for n, fields in table_rows(text, meant, who)]
    filled = [(n, fields) for n, fields in lines if fields]
    header = filled[0][1] if filled else []
    numbered = [str(i) for i in range(1, len(header) + 1)]
    by_number = bool(asked) and set(asked.values()) <= set(numbered) and not set(asked.values()) <= set(header)
    named = not header or (not by_number and has_header(header, is_picture))
    records = _Records(header if named else numbered, f"{who}, line {filled[0][0] if filled else 1}")
    if len(set(records.columns)) < len(records.columns):
        twice = next(c for i, c in enumerate(header) if c in header[:i])
        raise ValueError(f"{records.first}: two columns are called {shown(twice)!r}. Give each its own name.")
    for number, fields in filled[named:]:
        where = f"{who}, line {number}"
        check_width(fields, records.columns, where)
        records.rows.append((where, dict(zip(records.columns, fields, strict=True))))
    if not named:
        records.notes.append(f"{path.name}: its first line is taken for a row, since it names a picture.")
    records.notes += _blank_lines(path, len(lines) - len(filled))
    return records


def _blank_lines(path: Path, blank: int) -> list[str]:
    return [f"{path.name}: {blank} blank lines were passed over."] if blank else []


def _row(where: str, record: Mapping[str, Any], columns: Columns) -> Row:
    values = {}
    for meaning, column in (("path", columns.image), ("class", columns.label), ("split", columns.split)):
        value = record.get(column) if column is not None else None
        if not (value is None or type(value) in (str, int)):
            raise ValueError(
                f"{where}: expected texts, got {shown(str(value))!r}. Put every value between double quotes."
            )
        values[meaning] = "" if value is None else str(value).strip()
        if meaning != "split" and not values[meaning]:
            raise ValueError(f"{where}: the {meaning} is blank. Give every row a picture and a class.")
    split = SPLIT_NAMES.get(values["split"].lower())
    if columns.split is not None and columns.split in record and split is None:
        raise ValueError(f"{where}: split must be train, val or test, got {shown(values['split'])!r}.")
    return Row(where, values["path"], values["class"], split)
