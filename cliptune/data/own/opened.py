"""A file whose format is not known yet: what readers look at to recognise it, read once for all of them."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

from cliptune.data.own.tables import delimiter_of, table_rows
from cliptune.reading import LARGEST, content_of, json_value, utf8

_HEAD = 1 << 16


class Opened:
    """A file and what its content looks like. Looking never fails: what cannot be read is None.

    Args:
        path: of the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def name(self) -> str:
        return self.path.name

    @cached_property
    def head(self) -> bytes:
        """The first 64 KiB."""
        with self.path.open("rb") as file:
            return file.read(_HEAD)

    @cached_property
    def text(self) -> str | None:
        """All of it as UTF-8; None if it is binary, too long or of another encoding."""
        if b"\0" in self.head or self.path.stat().st_size > LARGEST:
            return None
        try:
            return utf8(content_of(self.path))
        except ValueError:
            return None

    @cached_property
    def json(self) -> Any:
        """What it says as JSON; None if it is none."""
        beginning = self.head.removeprefix(b"\xef\xbb\xbf").lstrip()[:1]
        if beginning not in (b"{", b"[") or self.text is None:
            return None
        try:
            return json_value(self.text)
        except ValueError:
            return None

    @property
    def is_json_lines(self) -> bool:
        """Whether each of its first lines is a JSON object of its own."""
        lines = [line for line in (self.text or "").split("\n", 2)[:2] if line.strip()]
        try:
            return self.json is None and len(lines) == 2 and all(isinstance(json_value(line), dict) for line in lines)
        except ValueError:
            return False

    @cached_property
    def table(self) -> list[list[str]] | None:
        """The lines of a table, blank ones left out, the first of them names of columns; None if it is none."""
        beginning = self.head.removeprefix(b"\xef\xbb\xbf").lstrip()[:1]
        if not beginning or beginning in (b"{", b"[", b"<") or self.text is None:
            return None
        try:
            rows = table_rows(self.text, delimiter_of(self.text), self.name)
            return [[field.strip() for field in fields] for _, fields in rows if fields]
        except ValueError:
            return None
