"""Label files that come with published archives: lines of text, and MATLAB's `.mat`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cliptune.data.published.matlab import Array, Kind, read_mat
from cliptune.reading import content_of, json_value, listed, shown, utf8


def text_lines(path: Path, who: str) -> list[str]:
    """The lines of a text file without blank ones and the blanks around them. Raises: FileNotFoundError, ValueError."""
    content = _text(path, who)
    lines = [line.strip() for line in content.replace("\r\n", "\n").replace("\r", "\n").split("\n")]
    return [line for line in lines if line]


def json_object(path: Path, who: str) -> dict[str, Any]:
    """A JSON object. Raises: FileNotFoundError, ValueError."""
    try:
        content = json_value(_text(path, who))
    except ValueError as error:
        raise ValueError(f"{who}: expected JSON in {path}, but {error}. Fetch the file again.") from error
    if not isinstance(content, dict):
        raise ValueError(f"{who}: expected a JSON object in {path}, got {type(content).__name__}. Fetch it again.")
    return content


def mat_numbers(path: Path, name: str, who: str) -> list[int]:
    """The whole numbers of a variable of a `.mat` file (before version 7.3).

    Raises: FileNotFoundError; ValueError if the file cannot be read, has no such variable, or it holds something else.
    """
    found = _variable(path, name, "numbers", who)
    return [whole_number(value, f"{who}: {path}, variable {name!r}") for value in found.values]


def mat_texts(path: Path, name: str, who: str) -> list[str]:
    """The texts of a cell array. Raises: as `mat_numbers`."""
    return [str(_single(cell, path, who)) for cell in _variable(path, name, "cell", who).values]


def mat_fields(path: Path, name: str, fields: tuple[str, ...], who: str) -> list[tuple[Any, ...]]:
    """The given fields of every element of a structure array: a number or a text each. Raises: as `mat_numbers`."""
    rows = _variable(path, name, "struct", who).values
    missing = next((field for row in rows for field in fields if field not in row), None)
    if missing is not None:
        raise ValueError(f"{who}: the variable {name!r} of {path} has no field {missing!r}. Fetch it again.")
    return [tuple(_single(row[field], path, who) for field in fields) for row in rows]


def whole_number(value: Any, who: str) -> int:
    """Raises: ValueError for anything but a whole number from 1, which is how label files count."""
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not 1 <= value < 2**31 or value != int(value):
        raise ValueError(f"{who}: expected whole numbers from 1, got {shown(repr(value))}. Fetch the file again.")
    return int(value)


def require(path: Path, who: str) -> None:
    """Raises FileNotFoundError if a label file is not there."""
    if not path.is_file():
        raise FileNotFoundError(
            f"{who}: expected the file {path}, found nothing. `cliptune data plan {who.split()[-1]}` says where to "
            "get it."
        )


def mat_file(path: Path, who: str) -> dict[str, Array]:
    """Variables of a `.mat` file by name. Raises: FileNotFoundError; ValueError if it cannot be read."""
    require(path, who)
    try:
        return read_mat(content_of(path))
    except ValueError as error:
        reason = "a text in it is damaged" if isinstance(error, UnicodeError) else error
        raise ValueError(f"{who}: {path} cannot be read as a MATLAB file ({reason}). Fetch it again.") from error


def _variable(path: Path, name: str, kind: Kind, who: str) -> Array:
    found = mat_file(path, who)
    if name not in found:
        raise ValueError(f"{who}: {path} has no variable {name!r}, only {listed(found) or 'nothing'}. Fetch it again.")
    if found[name].kind != kind:
        raise ValueError(
            f"{who}: the variable {name!r} of {path} should be of the kind {kind}, and is {found[name].kind}. Fetch it "
            "again."
        )
    return found[name]


def _single(array: Array, path: Path, who: str) -> Any:
    """The one number or text of an array."""
    if array.kind == "text" and not array.values:
        return ""
    if array.kind not in ("numbers", "text") or len(array.values) != 1:
        raise ValueError(f"{who}: {path} holds a list where one value was expected. Fetch it again.")
    return array.values[0]


def _text(path: Path, who: str) -> str:
    require(path, who)
    try:
        return utf8(content_of(path))
    except ValueError as error:
        raise ValueError(f"{who}: {path} is no UTF-8 text ({error}). Fetch the file again.") from error
