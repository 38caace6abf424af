"""Hugging Face imagefolder: `metadata.csv` or `metadata.jsonl` with `file_name`, beside the pictures or in the folder
of each split.

Source: the documentation of `datasets`, "Create an image dataset", as of version 5.
"""

from __future__ import annotations

from collections.abc import Mapping

from cliptune.data.own.columns import LABELS, plain
from cliptune.data.own.lists import rows_of_list
from cliptune.data.own.opened import Opened
from cliptune.data.own.port import Format
from cliptune.data.own.rows import Content
from cliptune.reading import json_value

_FILES = ("metadata.csv", "metadata.jsonl")


def _recognises(file: Opened) -> bool:
    """A list that also says what is in the pictures; where it does not, folders are classes."""
    if file.name not in _FILES:
        return False
    keys = {plain(key) for key in _keys(file)}
    return "file_name" in keys and any(keys & names for names in LABELS)


def _keys(file: Opened) -> list[str]:
    if file.name.endswith(".csv"):
        return file.table[0] if file.table else []
    try:
        first = json_value((file.text or "").split("\n", 1)[0])
    except ValueError:
        return []
    return list(first) if isinstance(first, dict) else []


def _read(file: Opened, columns: Mapping[str, str]) -> Content:
    content = rows_of_list(file.path, file.path.parent, columns, check_paths=False)
    content.says_splits = any(row.split is not None for row in content.rows)
    return content


FORMAT = Format("Hugging Face imagefolder", _FILES, _recognises, _read, columns=True)
