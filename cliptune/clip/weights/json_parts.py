"""Reading a JSON configuration piece by piece, with a sentence for every value that cannot be."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cliptune.reading import content_of, json_value, shown

# Far above any number of heads, their widths, and any statistic of pixels in [0, 1].
MOST = 1 << 20


def read_object(path: Path) -> dict[str, Any]:
    """The object in a JSON file. Raises: ValueError with a sentence."""
    try:
        found = json_value(content_of(path))
    except ValueError as error:
        raise ValueError(f"{path} is not valid JSON ({error}). Download it again.") from error
    if not isinstance(found, dict):
        raise ValueError(f"{path} must hold a JSON object, got a {type(found).__name__}.")
    return found


def part(config: Mapping[str, Any], name: str, path: Path) -> dict[str, Any]:
    """An object within the object; empty if it is left out or null."""
    found = config.get(name)
    if found is not None and not isinstance(found, dict):
        raise ValueError(f"{path}: {name} must be an object, got {shown(repr(found))}. Download it again.")
    return found or {}


def number(config: Mapping[str, Any], name: str, usual: int, path: Path) -> int:
    """A count from 1."""
    value = config.get(name, usual)
    if type(value) is not int or not 1 <= value <= MOST:
        raise ValueError(f"{path}: {name} must be a whole number from 1, got {shown(repr(value))}. Download it again.")
    return value
