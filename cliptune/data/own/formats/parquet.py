"""Parquet of Hugging Face `datasets`: pictures as bytes or paths, classes by the names in the schema's metadata.

Source: datasets 5 (`push_to_hub`, `to_parquet`) and pandas; read with pyarrow, which is an extra.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from cliptune.data.images import ImageError
from cliptune.data.own.columns import IMAGES, LABELS, plain
from cliptune.data.own.opened import Opened
from cliptune.data.own.port import Format
from cliptune.data.own.rows import Content, Row, passed_over
from cliptune.data.own.stored import Encoded, StoredPicture
from cliptune.reading import json_value, listed, shown

LARGEST_GROUP = 2 << 30
"""Bytes of the pictures of one row group, which is read as a whole."""


def _recognises(file: Opened) -> bool:
    return file.head[:4] == b"PAR1"


@dataclass(frozen=True)
class _Cell(Encoded):
    """The picture in row `i` of a row group."""

    file: Path
    column: str
    group: int
    i: int

    @property
    def who(self) -> str:
        return f"Picture {self.i} of row group {self.group} in {self.file}"

    def content(self) -> bytes:
        value = _group(self.file, self.file.stat().st_mtime_ns, self.column, self.group)[self.i].as_py()
        content = value.get("bytes") if isinstance(value, dict) else value
        if not isinstance(content, bytes):
            raise ImageError(f"{self.who} has no bytes. Write the file again with its pictures in it.")
        return content


@lru_cache(maxsize=4)
def _group(file: Path, written: int, column: str, group: int) -> Any:
    """The pictures of a row group, kept for the next of them as long as the file was written at the same time."""
    with _file(file) as table:
        return table.read_row_group(group, columns=[column], use_threads=False).column(column)


def _file(path: Path) -> Any:
    try:
        from pyarrow.parquet import ParquetFile
    except ImportError as error:
        raise ImportError(f"{path} is a parquet file, which needs pyarrow: pip install 'cliptune[parquet]'.") from error
    return ParquetFile(path, memory_map=True)


def _read(file: Opened, columns: Mapping[str, str]) -> Content:
    who = FORMAT.who(file.path)
    try:
        with _file(file.path) as table:
            return _of_table(table, file, columns, who)
    except (ValueError, ImportError) as error:
        if str(error).startswith((who, str(file.path))):
            raise
        raise ValueError(f"{who}: it cannot be read ({shown(str(error))}). Fetch or write it again.") from error
    except Exception as error:  # pyarrow meets broken files with exceptions of many kinds
        raise ValueError(f"{who}: it cannot be read ({shown(str(error))}). Fetch or write it again.") from error


def _of_table(table: Any, file: Opened, columns: Mapping[str, str], who: str) -> Content:
    features = _features(table.schema_arrow.metadata)
    image = _image(table.schema_arrow, features, columns, who)
    label = _label(table.schema_arrow.names, features, image, columns, who)
    names = _class_names(features.get(label), who)
    stored = _holds_bytes(table, image)
    _check_groups(table, image, who)
    rows: list[Row] = []
    pictures: list[StoredPicture] = []
    without: list[str] = []
    for group in range(table.num_row_groups):
        labels = table.read_row_group(group, columns=[label], use_threads=False).column(label).to_pylist()
        paths = (
            [None] * len(labels)
            if stored
            else _paths(table.read_row_group(group, columns=[image], use_threads=False).column(image).to_pylist())
        )
        for i, (value, path) in enumerate(zip(labels, paths, strict=True)):
            where = f"{who}, row {i} of row group {group}"
            name = _name(value, names, where)
            path = f"{file.name}/{group}/{i:06d}" if stored else path
            if name is None or not path:
                without.append(path or where)
            else:
                rows.append(Row(where, path, name, None))
                pictures += [_Cell(file.path, image, group, i)] if stored else []
    notes = passed_over(who, without, "since they lack a class or a picture")
    return Content(rows, notes, pictures if stored else None)


def _features(metadata: Mapping[bytes, bytes] | None) -> dict[str, Any]:
    """What `datasets` notes of the columns; {} of another file."""
    noted = (metadata or {}).get(b"huggingface")
    content = json_value(noted) if noted is not None else None
    info = content.get("info") if isinstance(content, dict) else None
    features = info.get("features") if isinstance(info, dict) else None
    return features if isinstance(features, dict) else {}


def _image(schema: Any, features: Mapping[str, Any], columns: Mapping[str, str], who: str) -> str:
    noted = [name for name in schema.names if _kind(features.get(name)) == "Image"]
    pictures = noted or [f.name for f in schema if _may_hold_bytes(f.type)]
    named = [name for name in pictures or schema.names if any(plain(name) in names for names in IMAGES)]
    return _one("image", pictures if len(pictures) == 1 else named, schema.names, columns, who)


def _may_hold_bytes(kind: Any) -> bool:
    import pyarrow.types as types

    if types.is_struct(kind):
        return any(kind.field(i).name == "bytes" for i in range(kind.num_fields))
    return bool(types.is_binary(kind) or types.is_large_binary(kind))


def _label(names: Sequence[str], features: Mapping[str, Any], image: str, columns: Mapping[str, str], who: str) -> str:
    noted = [name for name in names if _kind(features.get(name)) == "ClassLabel"]
    named = [[name for name in names if plain(name) in tier and name != image] for tier in LABELS]
    return _one("label", noted or named[0] or named[1], names, columns, who)


def _one(meaning: str, found: Sequence[str], names: Sequence[str], columns: Mapping[str, str], who: str) -> str:
    asked = columns.get(meaning)
    if asked is not None and asked not in names:
        raise ValueError(
            f"{who}: there is no column {shown(asked)!r}, which --columns asks for. The columns are "
            f"{listed(names, 12)}."
        )
    if asked is None and len(found) != 1:
        raise ValueError(
            f"{who}: expected one column {meaning}, got {len(found)} ({listed(found) or 'none'}). The columns are "
            f"{listed(names, 12)}. Say which: --columns image=COLUMN,label=COLUMN."
        )
    return asked or found[0]


def _kind(feature: Any) -> Any:
    return feature.get("_type") if isinstance(feature, dict) else None


def _class_names(feature: Any, who: str) -> list[str] | None:
    if _kind(feature) != "ClassLabel":
        return None
    names = feature.get("names")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"{who}: expected the names of a ClassLabel, got {shown(json.dumps(names))}. Write it again.")
    return names


def _name(value: Any, names: Sequence[str] | None, where: str) -> str | None:
    """A class in words; None where there is no label, which `datasets` writes as −1."""
    if value is None or (names is not None and value == -1):
        return None
    if names is None and type(value) in (str, int):
        return str(value).strip() or None
    if names is not None and type(value) is int and 0 <= value < len(names):
        return names[value]
    expected = "a text or a whole number" if names is None else f"a number from 0 to {len(names) - 1}"
    raise ValueError(f"{where}: expected {expected} as class, got {shown(str(value))!r}. Write the file again.")


def _holds_bytes(table: Any, image: str) -> bool:
    """Whether the first picture lies in the file itself; `to_parquet` of a folder's pictures writes their paths."""
    for batch in table.iter_batches(batch_size=1, columns=[image], use_threads=False):
        first = batch.column(0)[0].as_py()
        return isinstance(first.get("bytes") if isinstance(first, dict) else first, bytes)
    return True


def _check_groups(table: Any, image: str, who: str) -> None:
    for group in range(table.num_row_groups):
        known = table.metadata.row_group(group)
        parts = [known.column(i) for i in range(known.num_columns)]
        size = sum(part.total_uncompressed_size for part in parts if part.path_in_schema.split(".")[0] == image)
        if size > LARGEST_GROUP:
            raise ValueError(
                f"{who}: the pictures of row group {group} have {size:,} bytes, and one is read as a whole, up to "
                f"{LARGEST_GROUP:,}. Write it with smaller row groups."
            )


def _paths(values: Sequence[Any]) -> list[str | None]:
    found = [value.get("path") if isinstance(value, dict) else value for value in values]
    return [path if isinstance(path, str) else None for path in found]


FORMAT = Format("Parquet file", ("*.parquet",), _recognises, _read, columns=True)
