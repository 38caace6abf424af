"""WebDataset shards: `.tar` files in which members of one name are a sample, `0001.jpg` with `0001.cls`. Nothing is
unpacked: pictures are read where they lie in the shard.

Source: webdataset 1.0, and shards of `img2dataset` and of the hub that look the same.
"""

from __future__ import annotations

import tarfile
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from cliptune.data.images import SUFFIXES
from cliptune.data.own.opened import Opened
from cliptune.data.own.port import Format
from cliptune.data.own.rows import Content, Row, passed_over
from cliptune.data.own.stored import Piece
from cliptune.reading import MIB, json_value, listed, shown, utf8

_WORDS = ("cls", "label", "class", "txt", "text")
"""Members that may be a class, by what follows the sample's name."""
_KEYS = ("label", "class", "class_name", "category")
"""Keys of a `.json` member that may be one."""
_MOST_TEXT = MIB
_Sample = dict[str, Piece]


def _recognises(file: Opened) -> bool:
    return file.head[257:262] == b"ustar" and file.path.suffix.lower() not in (".gz", ".zst")


def _read(file: Opened, columns: Mapping[str, str]) -> Content:
    who = FORMAT.who(file.path)
    rows: list[Row] = []
    pictures: list[Any] = []
    without: list[str] = []
    labelled = [(key, _picture(key, sample, who), _labels(sample, key, who)) for key, sample in _samples(file, who)]
    field = _field([labels for _, picture, labels in labelled if picture is not None], columns, who)
    for key, picture, labels in labelled:
        if picture is None or not labels.get(field, "").strip():
            without.append(key)
        else:
            path = f"{file.name}/{picture.name}"
            rows.append(Row(f"{who}, {shown(key)}", path, labels[field].strip(), None))
            pictures.append(picture)
    return Content(rows, passed_over(who, without, f"since they lack a picture or {field!r}"), pictures)


def _samples(file: Opened, who: str) -> list[tuple[str, _Sample]]:
    """(name, what follows it → member) of each sample, in order."""
    samples: dict[str, _Sample] = {}
    try:
        with tarfile.open(file.path, "r:") as archive:
            members = list(archive)
    except Exception as error:  # broken headers are met with many kinds of exception
        reason = str(error) or type(error).__name__
        raise ValueError(f"{who}: the archive cannot be read ({shown(reason)}). Fetch or write it again.") from error
    for member in members:
        path = PurePosixPath(member.name)
        if path.is_absolute() or ".." in path.parts:
            raise ValueError(
                f"{who}: the member {shown(member.name)!r} leaves the archive. Write it again without '..'."
            )
        if member.type in (tarfile.REGTYPE, tarfile.AREGTYPE) and not path.name.startswith("."):
            stem, _, ending = path.name.partition(".")
            piece = Piece(file.path, member.name, member.offset_data, member.size)
            samples.setdefault(str(path.with_name(stem)), {})[ending.lower()] = piece
    return list(samples.items())


def _picture(key: str, sample: _Sample, who: str) -> Piece | None:
    found = [piece for ending, piece in sample.items() if PurePosixPath(f"x.{ending}").suffix in SUFFIXES]
    if len(found) > 1:
        raise ValueError(
            f"{who}: the sample {shown(key)} holds {len(found)} pictures ({listed([p.name for p in found])}). Write "
            "one for each sample."
        )
    return found[0] if found else None


def _labels(sample: _Sample, key: str, who: str) -> dict[str, str]:
    """Field → text of every member that may be a class."""
    labels = {ending: _text(sample[ending], who) for ending in _WORDS if ending in sample}
    if "json" in sample:
        try:
            content = json_value(_text(sample["json"], who))
        except ValueError as error:
            raise ValueError(f"{who}, {shown(key)}.json: {error}. Write the shard again.") from error
        for name in _KEYS if isinstance(content, dict) else ():
            if isinstance(content.get(name), (str, int)) and not isinstance(content[name], bool):
                labels[f"json.{name}"] = str(content[name])
    return labels


def _text(piece: Piece, who: str) -> str:
    if piece.size > _MOST_TEXT:
        raise ValueError(f"{who}: the member {shown(piece.name)} has {piece.size:,} bytes, too many for a class.")
    try:
        return utf8(piece.content())
    except ValueError as error:
        raise ValueError(f"{who}: the member {shown(piece.name)} is no text ({error}). Write it again.") from error


def _field(labels: Sequence[Mapping[str, str]], columns: Mapping[str, str], who: str) -> str:
    """The field that holds the class: the one that is asked for or there, or in words for what another counts."""
    fields = list(dict.fromkeys(field for found in labels for field in found))
    asked = columns.get("label")
    if asked in fields:
        return str(asked)
    if asked is not None or not fields:
        raise ValueError(
            f"{who}: expected a class for each picture, in members {', '.join('.' + w for w in _WORDS)} or .json, got "
            f"{listed(fields) or 'none'}{'' if asked is None else f', and {shown(asked)!r} is asked for'}."
        )
    words = [f for f in fields if _same_parts(labels, fields[0], f) and not all(x.get(f, "").isdigit() for x in labels)]
    alike = all(_same_parts(labels, fields[0], field) for field in fields)
    if len(fields) > 1 and not alike:
        raise ValueError(
            f"{who}: {listed(fields)} say different things, and any may be the class. Say which: --columns "
            f"label={fields[0]}."
        )
    return words[0] if words else fields[0]


def _same_parts(labels: Sequence[Mapping[str, str]], one: str, other: str) -> bool:
    """Whether both fields put the samples into the same groups."""
    pairs = {(found.get(one), found.get(other)) for found in labels}
    return len(pairs) == len({a for a, _ in pairs}) == len({b for _, b in pairs})


FORMAT = Format("WebDataset shard", ("*.tar",), _recognises, _read, columns=True)
