"""Roboflow's `_classes.csv` (Multi-class Classification CSV): a column of 0 and 1 for each class.

Source: exports of Roboflow, `filename, cat, dog` and a line for each picture.
"""

from __future__ import annotations

from collections.abc import Mapping

from cliptune.data.own.columns import IMAGES, plain
from cliptune.data.own.opened import Opened
from cliptune.data.own.port import Format
from cliptune.data.own.rows import Content, Row, passed_over
from cliptune.data.own.tables import check_width
from cliptune.reading import listed, shown

_SAMPLE = 50


def _recognises(file: Opened) -> bool:
    table = file.table
    if not table or len(table) < 2 or len(table[0]) < (2 if file.name == "_classes.csv" else 3):
        return False
    pictures = plain(table[0][0]) in IMAGES[0]
    return pictures and all(set(line[1:]) <= {"0", "1"} and len(line) > 1 for line in table[1:_SAMPLE])


def _read(file: Opened, columns: Mapping[str, str]) -> Content:
    who = FORMAT.who(file.path)
    header, *lines = file.table or [[]]
    rows: list[Row] = []
    without: list[str] = []
    for number, line in enumerate(lines, 2):
        where = f"{who}, line {number}"
        check_width(line, header, where)
        odd = next((value for value in line[1:] if value not in ("0", "1")), None)
        if odd is not None:
            raise ValueError(f"{where}: expected 0 or 1 for each class, got {shown(odd)!r}. Export it again.")
        named = [name for name, value in zip(header[1:], line[1:], strict=True) if value == "1"]
        if len(named) > 1:
            raise ValueError(
                f"{where}: {shown(line[0])} is of {len(named)} classes ({listed(named)}), and pictures are told apart "
                "by one each. Export a single-label project, or take these pictures out."
            )
        if named and not (line[0] and named[0]):
            raise ValueError(f"{where}: the picture or its class has no name. Export it again.")
        if named:
            rows.append(Row(where, line[0], named[0], None))
        else:
            without.append(line[0])
    return Content(rows, passed_over(who, without, "since it is of no class"))


FORMAT = Format("Roboflow's _classes.csv", ("_classes.csv",), _recognises, _read)
