"""Tables as text: which character separates the values, and whether the first line names the columns."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Sequence
from pathlib import PurePosixPath

from cliptune.data.images import SUFFIXES
from cliptune.data.own.columns import is_known
from cliptune.reading import listed, shown

DELIMITERS = {"comma": ",", "semicolon": ";", "tab": "\t", "\\t": "\t", "pipe": "|", "space": " "}
"""Words for separators → the character."""
_TRIED = (",", ";", "\t", "|")
_SAMPLE = 20


def delimiter_meant(asked: str) -> str:
    """The character that `--delimiter` stands for. Raises: ValueError unless it is one."""
    meant = DELIMITERS.get(asked.lower(), asked)
    if len(meant) != 1 or meant in "\r\n\"'\0" or not meant.isascii():
        raise ValueError(
            f"--delimiter: expected one character, or {', '.join(DELIMITERS)}, got {shown(asked)!r}. For example "
            "--delimiter tab."
        )
    return meant


def delimiter_of(text: str) -> str:
    """The separator of a table: that by which the first line has most known names of columns, else that by which all
    lines have equally many values, at least two; a comma if none does.
    """
    first = [line for line in text[: 1 << 16].split("\n", _SAMPLE)[:_SAMPLE] if line.strip()]
    if not first:
        return ","
    named = {d: sum(map(is_known, first[0].split(d))) for d in _TRIED}
    best = max(_TRIED, key=lambda d: named[d])
    if named[best] > 0:
        return best
    for candidate in (*_TRIED, " "):
        counts = {_width(line, candidate) for line in first}
        if len(counts) == 1 and counts.pop() > 1:
            return candidate
    return ","


def _width(line: str, delimiter: str) -> int:
    rows = list(csv.reader([line.rstrip("\r")], delimiter=delimiter)) if len(line) < csv.field_size_limit() else []
    return len(rows[0]) if rows else 0


def table_rows(text: str, delimiter: str, who: str) -> Iterator[tuple[int, list[str]]]:
    """(line, values) of each line; of a blank line no values. Raises: ValueError with the line."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        for fields in reader:
            yield reader.line_num, fields if any(field.strip() for field in fields) else []
    except csv.Error as error:
        where = f"{who}, line {reader.line_num}"
        raise ValueError(f"{where}: no valid CSV ({error}). Check its quotes.") from error


def has_header(first: Sequence[str], is_picture: Callable[[str], bool]) -> bool:
    """Whether a table's first line names its columns: no value of it is a picture's name."""
    if any(map(is_known, first)):
        return True
    return not any(PurePosixPath(cell.strip()).suffix.lower() in SUFFIXES or is_picture(cell.strip()) for cell in first)


def check_width(fields: Sequence[str], header: Sequence[str], where: str) -> None:
    """Raises: ValueError if a line has another number of values than there are columns."""
    if len(fields) != len(header):
        raise ValueError(
            f"{where}: expected {len(header)} values ({listed(header)}), got {len(fields)}. "
            "Put a value with a comma in it between double quotes."
        )
