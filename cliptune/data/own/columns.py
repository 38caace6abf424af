"""Which column of a list is which: as asked, by its name, or by what stands in it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from cliptune.data.own.naming import SPLIT_NAMES
from cliptune.noted import few
from cliptune.reading import listed, shown

MEANINGS = ("image", "label", "split")

# Names in tiers: one of the first goes before those of the second.
IMAGES = (
    {
        *("image", "path", "file_name", "filename", "file", "filepath", "file_path", "image_path", "imagepath", "img"),
        *("img_path", "image_name", "image_file", "image_filename", "image_url", "picture", "photo"),
    },
    {"id", "image_id", "img_id", "name", "uuid"},
)
LABELS = (
    {
        *("class", "label", "class_name", "classname", "label_name", "category", "category_name", "labels"),
        *("class_label", "choice"),
    },
    {"target", "class_id", "label_id", "category_id", "y"},
)
SPLITS = {"split", "subset", "partition"}
_SPOKEN = {"image": "image (or path)", "label": "class (or label)"}
SAMPLE = 20
"""So many rows are looked at where content must tell."""


class Columns(NamedTuple):
    """Names of the columns that are read, and sentences on those that were guessed or passed over."""

    image: str
    label: str
    split: str | None
    notes: tuple[str, ...] = ()


def asked_columns(asked: str | Mapping[str, str] | None) -> dict[str, str]:
    """Meaning → column, from "image=id,label=breed" or a mapping; {} where nothing is asked.

    Raises: ValueError for another meaning than image, label and split, or none.
    """
    if asked is None:
        return {}
    if isinstance(asked, str):
        pairs = [part.partition("=") for part in asked.split(",")]
        given = {key.strip(): value.strip() for key, _, value in pairs}
        if len(given) < len(pairs):
            raise ValueError(
                f"--columns {shown(asked)!r} says one thing twice. For example --columns image=id,label=breed."
            )
    else:
        given = {str(key): str(value) for key, value in asked.items()}
    wrong = [key for key, value in given.items() if key not in MEANINGS or not value]
    if wrong:
        raise ValueError(
            f"--columns: expected {', '.join(f'{m}=COLUMN' for m in MEANINGS)}, some of them, got {listed(wrong)}. "
            "For example --columns image=id,label=breed."
        )
    return given


def is_known(column: str) -> bool:
    """Whether a column's name says what it holds."""
    return any(plain(column) in names for names in (*IMAGES, *LABELS, SPLITS))


def plain(column: str) -> str:
    return re.sub(r"[\s-]+", "_", column.strip().lower())


def choose(
    columns: Sequence[str],
    sample: Sequence[Mapping[str, Any]],
    asked: Mapping[str, str],
    is_picture: Callable[[str], bool],
    where: str,
) -> Columns:
    """The columns of a list.

    Args:
        columns: in their order.
        sample: some rows, column → value.
        asked: of `asked_columns`.
        is_picture: whether a value names a picture that is there.
        where: begins the errors.
    Raises: ValueError if a column that was asked for is not there, or the pictures or classes may be in several.
    """
    for column in asked.values():
        if column not in columns:
            raise ValueError(
                f"{where}: there is no column {shown(column)!r}, which --columns asks for. The columns are "
                f"{listed(columns, 12)}."
            )
    notes: list[str] = []
    taken = set(asked.values())
    image = asked.get("image") or _image(columns, sample, taken, is_picture, where, notes)
    taken.add(image)
    split = asked.get("split") or _split(columns, sample, taken)
    taken |= {split} if split else set()
    label = asked.get("label") or _label(columns, sample, taken, where, notes)
    others = [column for column in columns if column not in (image, label, split) and column.strip()]
    if others:
        notes.append(f"{where}: other columns were passed over: {few(map(shown, others), 5)}.")
    return Columns(image, label, split, tuple(notes))


def _image(
    columns: Sequence[str],
    sample: Sequence[Mapping[str, Any]],
    taken: set[str],
    is_picture: Callable[[str], bool],
    where: str,
    notes: list[str],
) -> str:
    free = [column for column in columns if column not in taken]

    def hold_pictures(some: Sequence[str]) -> list[str]:
        return [c for c in some if sample and all(is_picture(_text(row.get(c))) for row in sample[:SAMPLE])]

    for names in IMAGES:
        named = [column for column in free if plain(column) in names]
        if len(named) == 1:
            return named[0]
        if named:
            fitting = hold_pictures(named)
            if len(fitting) != 1:
                raise _several("image", named, columns, where)
            notes.append(f"{where}: pictures are taken from the column {shown(fitting[0])!r}, which names files.")
            return fitting[0]
    fitting = hold_pictures(free)
    if len(fitting) != 1:
        raise _several("image", fitting, columns, where)
    notes.append(f"{where}: pictures are taken from the column {shown(fitting[0])!r}, since it names files.")
    return fitting[0]


def _split(columns: Sequence[str], sample: Sequence[Mapping[str, Any]], taken: set[str]) -> str | None:
    named = [column for column in columns if plain(column) in SPLITS and column not in taken]
    exact = [column for column in named if plain(column) == "split"]
    if exact:
        return exact[0]
    fitting = [c for c in named if sample and all(_text(row.get(c)).lower() in SPLIT_NAMES for row in sample)]
    return fitting[0] if fitting else None


def _label(
    columns: Sequence[str], sample: Sequence[Mapping[str, Any]], taken: set[str], where: str, notes: list[str]
) -> str:
    free = [column for column in columns if column not in taken]
    for names in LABELS:
        named = [column for column in free if plain(column) in names]
        if len(named) == 1:
            return named[0]
        if named:
            in_words = [c for c in named if not all(_is_number(_text(row.get(c))) for row in sample)]
            if len(in_words) != 1 or not sample:
                raise _several("label", named, columns, where)
            notes.append(f"{where}: classes are taken from the column {shown(in_words[0])!r}, which has them in words.")
            return in_words[0]
    left = [c for c in free if not _is_index(c, sample) and plain(c) not in IMAGES[1]]
    if len(left) != 1:
        raise _several("label", left, columns, where)
    notes.append(f"{where}: classes are taken from the column {shown(left[0])!r}, the only other one.")
    return left[0]


def _several(meaning: str, found: Sequence[str], columns: Sequence[str], where: str) -> ValueError:
    among = f" ({listed(found)})" if len(found) > 1 else ""
    return ValueError(
        f"{where}: expected one column {_SPOKEN[meaning]}, got {len(found)}{among}. The columns are "
        f"{listed(columns, 12)}. Say which: --columns image=COLUMN,label=COLUMN."
    )


def _is_index(column: str, sample: Sequence[Mapping[str, Any]]) -> bool:
    """Whether it numbers the rows, as pandas writes it."""
    named = not column.strip() or plain(column).startswith("unnamed") or plain(column) in ("index", "level_0")
    return named and all(_text(row.get(column)).isdigit() for row in sample)


def _is_number(text: str) -> bool:
    return re.fullmatch(r"[+-]?\d+(\.\d*)?", text) is not None


def _text(value: Any) -> str:
    return "" if value is None else str(value).strip()
