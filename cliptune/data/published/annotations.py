"""Label files that come with published archives: lines of text, and MATLAB's `.mat`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np


def text_lines(path: Path, who: str) -> list[str]:
    """The lines of a text file without blank ones and the blanks around them. Raises: FileNotFoundError, ValueError."""
    require(path, who)
    try:
        content = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{who}: {path} is no UTF-8 text. Fetch the file again.") from error
    lines = [line.strip() for line in content.splitlines()]
    return [line for line in lines if line]


def json_object(path: Path, who: str) -> dict[str, Any]:
    """A JSON object. Raises: FileNotFoundError, ValueError."""
    try:
        content = json.loads("\n".join(text_lines(path, who)))
    except json.JSONDecodeError as error:
        raise ValueError(f"{who}: expected JSON in {path}, but {error}. Fetch the file again.") from error
    if not isinstance(content, dict):
        raise ValueError(f"{who}: expected a JSON object in {path}, got {type(content).__name__}.")
    return content


def mat_variable(path: Path, name: str, who: str) -> np.ndarray:
    """A variable of a `.mat` file (before version 7.3) with axes of length 1 dropped, at least one axis.

    Raises: FileNotFoundError; ValueError if the file cannot be read or has no such variable.
    """
    from scipy.io import loadmat

    require(path, who)
    try:
        content = loadmat(path, squeeze_me=True)
    except Exception as error:  # a damaged file fails in many ways inside the reader
        raise ValueError(f"{who}: {path} cannot be read as a MATLAB file ({error}). Fetch it again.") from error
    if name not in content:
        found = ", ".join(key for key in content if not key.startswith("__")) or "nothing"
        raise ValueError(f"{who}: {path} has no variable {name!r}, only {found}. Fetch it again.")
    return np.atleast_1d(content[name])


def mat_fields(path: Path, variable: str, fields: tuple[str, ...], who: str) -> list[tuple[Any, ...]]:
    """The given fields of every element of a structure array in a `.mat` file."""
    rows = mat_variable(path, variable, who)
    missing = [field for field in fields if field not in (rows.dtype.names or ())]
    if missing:
        raise ValueError(f"{who}: the variable {variable!r} of {path} has no field {missing[0]!r}. Fetch it again.")
    return [tuple(row[field].item() if hasattr(row[field], "item") else row[field] for field in fields) for row in rows]


def require(path: Path, who: str) -> None:
    """Raises FileNotFoundError if a label file is not there."""
    if not path.is_file():
        raise FileNotFoundError(
            f"{who}: expected the file {path}, found nothing. `cliptune data plan {who.split()[-1]}` says where to "
            "get it."
        )
