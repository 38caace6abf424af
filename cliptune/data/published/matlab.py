"""MATLAB's files (level 5, `.mat`), as far as label files use them: numbers, texts, cells, structures.

Read here byte by byte, so that a damaged file is a sentence and never ends the process.
Source: MathWorks, MAT-File Format, level 5.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import Any, Literal

import numpy as np

from cliptune.reading import LARGEST

Parts = Iterator[tuple[int, bytes]]
Kind = Literal["numbers", "text", "cell", "struct", "other"]

_HEADER = 128
_MATRIX, _COMPRESSED = 14, 15
_DEEPEST = 16
# Numbers of each type of data, without the byte order.
_NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_ENCODINGS = {1: "latin-1", 2: "latin-1", 4: "utf-16", 16: "utf-8", 17: "utf-16", 18: "utf-32"}
_CELL, _STRUCT, _TEXT, _NUMERIC = 1, 2, 4, range(6, 16)


@dataclass(frozen=True)
class Array:
    """A variable, or what lies in a cell or field.

    Args:
        kind: "other" for what is not read: sparse matrices, objects, functions.
        shape: of the MATLAB array.
        values: numbers, the rows of a text, arrays, or field → array; first axis fastest.
    """

    kind: Kind
    shape: tuple[int, ...]
    values: list[Any]


def read_mat(content: bytes) -> dict[str, Array]:
    """Variables of a file by name. Raises: ValueError with a phrase."""
    order = {b"IM": "<", b"MI": ">"}.get(content[126:128])
    if len(content) < _HEADER or order is None:
        raise ValueError("it does not begin as a file of MATLAB's level 5")
    reader = _Reader(order)
    found = {}
    for kind, data in reader.elements(content[_HEADER:]):
        if kind == _COMPRESSED:
            kind, data = next(reader.elements(reader.unpacked(data)), (0, b""))
        if kind == _MATRIX:
            name, array = reader.matrix(data)
            found[name] = array
    return found


class _Reader:
    def __init__(self, order: str) -> None:
        self.order: Any = "little" if order == "<" else "big"
        self.sign = order
        self.left = LARGEST

    def unpacked(self, data: bytes) -> bytes:
        try:
            content = zlib.decompressobj().decompress(data, self.left + 1)
        except zlib.error as error:
            raise ValueError("a packed part of it is damaged") from error
        self.left -= len(content)
        if self.left < 0:
            raise ValueError(f"it unpacks to more than {LARGEST:,} bytes")
        return content

    def elements(self, data: bytes) -> Parts:
        """Type and bytes of the elements that follow each other."""
        at = 0
        while at + 8 <= len(data):
            tag = self._word(data[at : at + 4])
            if tag >> 16:  # up to four bytes share the tag's eight
                kind, size, start, end = tag & 0xFFFF, tag >> 16, at + 4, at + 8
            else:
                kind, size, start = tag, self._word(data[at + 4 : at + 8]), at + 8
                end = start + size if kind == _COMPRESSED else start + size + -size % 8
            if start + size > min(end, len(data)):
                raise ValueError("it ends in the middle of a part")
            yield kind, data[start : start + size]
            at = end
        if at < len(data):
            raise ValueError("it ends in the middle of a part")

    def matrix(self, data: bytes, depth: int = 0) -> tuple[str, Array]:
        if depth > _DEEPEST:
            raise ValueError("its cells lie too deep in each other")
        if not data:  # what MATLAB writes for an empty cell
            return "", Array("numbers", (0, 0), [])
        parts = self.elements(data)
        flags, shape = self._numbers(parts), tuple(self._numbers(parts))
        kind, name = (flags[0] if flags else 0) & 0xFF, self._bytes(parts).decode("latin-1")
        if len(shape) < 2 or min(shape) < 0:
            raise ValueError("an array in it has no size")
        if kind in _NUMERIC:
            return name, Array("numbers", shape, self._counted(self._numbers(parts), shape))
        if kind == _TEXT:
            return name, Array("text", shape, self._rows(parts, shape))
        if kind == _CELL:
            inner = [self._inner(part, depth) for part in parts]
            return name, Array("cell", shape, self._counted(inner, shape))
        if kind == _STRUCT:
            return name, Array("struct", shape, self._records(parts, shape, depth))
        return name, Array("other", shape, [])

    def _records(self, parts: Parts, shape: tuple[int, ...], depth: int) -> list[dict[str, Array]]:
        length, names = self._numbers(parts), self._bytes(parts)
        if not length or length[0] < 1:
            raise ValueError("a structure in it has no fields")
        step = length[0]
        fields = [names[i : i + step].split(b"\0")[0].decode("latin-1") for i in range(0, len(names), step)]
        inner = [self._inner(part, depth) for part in parts]
        if len(inner) != prod(shape) * len(fields):
            raise ValueError("a structure in it has not as many values as it says")
        rows = (inner[i : i + len(fields)] for i in range(0, len(inner), max(1, len(fields))))
        return [dict(zip(fields, row, strict=True)) for row in rows]

    def _inner(self, part: tuple[int, bytes], depth: int) -> Array:
        if part[0] != _MATRIX:
            raise ValueError("a cell in it holds no array")
        return self.matrix(part[1], depth + 1)[1]

    def _rows(self, parts: Parts, shape: tuple[int, ...]) -> list[str]:
        kind, data = next(parts, (0, b""))
        if kind not in _ENCODINGS:
            raise ValueError("a text in it has an unknown encoding")
        encoding = _ENCODINGS[kind]
        if encoding.startswith("utf-") and encoding != "utf-8":
            encoding += "-le" if self.order == "little" else "-be"
        letters = self._counted(list(data.decode(encoding)), shape)
        return ["".join(letters[row :: shape[0]]).rstrip() for row in range(shape[0] if letters else 0)]

    @staticmethod
    def _counted(values: list[Any], shape: tuple[int, ...]) -> list[Any]:
        if len(values) != prod(shape):
            raise ValueError("an array in it has not as many values as it says")
        return values

    def _numbers(self, parts: Parts) -> list[Any]:
        kind, data = next(parts, (0, b""))
        if kind not in _NUMBERS:
            raise ValueError("an array in it has an unknown type of numbers")
        dtype = np.dtype(f"{self.sign}{_NUMBERS[kind]}")
        if len(data) % dtype.itemsize:
            raise ValueError("it ends in the middle of a number")
        return np.frombuffer(data, dtype).tolist()

    @staticmethod
    def _bytes(parts: Parts) -> bytes:
        return next(parts, (0, b""))[1]

    def _word(self, data: bytes) -> int:
        return int.from_bytes(data, self.order)
