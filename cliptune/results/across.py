"""Rows that differ in the number of shots alone, as one line with a column per number."""

from __future__ import annotations

from collections.abc import Sequence

from cliptune.results.formats import number
from cliptune.results.tables import Row, without_count

_OF = {"data", "method", "backbone", "trained", "trained_on", "protocol", "metric"}


def across_shots(made: Sequence[Row], names: Sequence[str]) -> tuple[list[str], list[list[str]]]:
    """Headers and lines: method, data, seeds, and for each evaluation the accuracy at each number of shots.

    A place without a run is "–", and a note that holds at some numbers of shots names them.

    Args:
        made: rows of one table.
        names: evaluations, in the order of the columns.

    Raises:
        ValueError: rows were trained on one number of shots, or on parts of the training images that are no numbers.
    """
    parts = sorted({row.share for row in made if row.share})
    if parts:
        raise ValueError(f"--across shots: runs were trained on {parts[0]}, not on a number of images per class.")
    shots = sorted({row.shots for row in made}, key=lambda n: float("inf") if n is None else n)
    if len(shots) < 2:
        raise ValueError(
            f"--across shots: all runs have {_called(shots[0]) if shots else 'no shots'}. Leave it out, or give a "
            "folder with runs on other numbers of shots as well (`cliptune bench … --shots 1,4,16`)."
        )
    lines: dict[tuple[object, ...], dict[int | None, Row]] = {}
    for row in made:
        lines.setdefault(tuple(getattr(row, name) for name in sorted(_OF)), {})[row.shots] = row
    several = len(names) > 1
    columns = [(name, n) for name in names for n in shots]
    headers = [f"{name}, {_called(n)}" if several else _called(n) for name, n in columns]
    notes = [_note(line, shots) for line in lines.values()]
    cells = []
    for line, note in zip(lines.values(), notes, strict=True):
        first = next(iter(line.values()))
        seeds = dict.fromkeys(",".join(map(str, row.seeds)) or "–" for row in line.values())
        numbers = [number(line[n], name) if n in line else "–" for name, n in columns]
        cells.append([first.method, first.place, " or ".join(seeds), *numbers, *([note] if any(notes) else [])])
    return ["method", "data", "seeds", *headers, *(["note"] if any(notes) else [])], cells


def _called(n: int | None) -> str:
    return "all images" if n is None else f"{n} shot{'s' if n != 1 else ''}"


def _note(line: dict[int | None, Row], shots: Sequence[int | None]) -> str:
    told: dict[str, list[int | None]] = {}
    for n in shots:
        for words in line[n].caveats if n in line else ():
            told.setdefault(without_count(words), []).append(n)
    return "; ".join(
        words if len(where) == len(line) else f"{words} ({', '.join(map(_called, where))})"
        for words, where in told.items()
    )
