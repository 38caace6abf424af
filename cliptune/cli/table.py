"""`cliptune table`: finished runs as a table, seeds averaged."""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from cliptune.cli.show import say
from cliptune.cli.show import table as show_table

if TYPE_CHECKING:
    from cliptune.protocols import Row

_FIRST = ("test", "val", "base", "new")
_LATEX = {"&": r"\&", "%": r"\%", "_": r"\_", "#": r"\#", "$": r"\$", "{": r"\{", "}": r"\}"}
_TEXT_COLUMNS = 2


def table(runs: str, /, *, format: Literal["text", "md", "csv", "latex"] = "text") -> None:
    """Tabulate finished runs: mean ± standard deviation over seeds, one row per method and data set.

    Runs that differ in options, selection or split are never averaged; they get rows of their own that say what
    differs. HM is the harmonic mean of the averaged base and new accuracies; the standard deviation is the
    population's.

    Parameters
    ----------
    runs
        Folder that holds run folders, at any depth.
    format
        text for the terminal, md, csv (full precision), latex.
    """
    from cliptune.protocols import collect, rows

    show_rows(rows(collect(runs)), format)


def show_rows(made: Sequence[Row], format: str = "text") -> None:
    """A table of rows on standard output."""
    names = _columns(made)
    if format == "csv":
        sys.stdout.write(_csv(made, names))
        return
    headers, lines = _cells(made, names)
    if format == "text":
        show_table(headers, lines, left=_TEXT_COLUMNS)
    else:
        say(_markdown(headers, lines) if format == "md" else _latex(headers, lines))


def _columns(made: Sequence[Row]) -> list[str]:
    """Evaluations that occur, the usual ones first."""
    found = dict.fromkeys(name for row in made for name in row.scores)
    return [name for name in _FIRST if name in found] + [name for name in found if name not in _FIRST]


def _cells(made: Sequence[Row], names: Sequence[str]) -> tuple[list[str], list[list[str]]]:
    shows_hm = any(row.harmonic_mean is not None for row in made)
    headers = ["method", "data", "shots", "seeds", *names, *(["HM"] if shows_hm else []), "learnables"]
    lines = []
    for row in made:
        hm = row.harmonic_mean
        lines.append(
            [
                row.method,
                row.data,
                "all" if row.shots is None else str(row.shots),
                ",".join(map(str, row.seeds)) or "–",
                *(_number(row, name) for name in names),
                *(["–" if hm is None else f"{hm:.2f}"] if shows_hm else []),
                "–" if row.learnables is None else f"{row.learnables:,}",
            ]
        )
    return headers, lines


def _number(row: Row, name: str) -> str:
    mean, std = row.mean(name), row.std(name)
    if mean is None:
        return "–"
    return f"{mean:.2f}" if std is None or len(row.seeds) < 2 else f"{mean:.2f} ± {std:.2f}"


def _csv(made: Sequence[Row], names: Sequence[str]) -> str:
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    spread = [word for name in names for word in (name, f"{name}_std")]
    writer.writerow(["method", "data", "shots", "seeds", *spread, "harmonic_mean", "learnables"])
    for row in made:
        numbers = [value for name in names for value in (row.mean(name), row.std(name))]
        shown = ["" if value is None else repr(value) for value in (*numbers, row.harmonic_mean, row.learnables)]
        shots = "all" if row.shots is None else row.shots
        writer.writerow([row.method, row.data, shots, " ".join(map(str, row.seeds)), *shown])
    return file.getvalue()


def _markdown(headers: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    ruler = ["---"] * _TEXT_COLUMNS + ["---:"] * (len(headers) - _TEXT_COLUMNS)
    escaped = [[cell.replace("|", r"\|") for cell in line] for line in (headers, ruler, *lines)]
    return "\n".join(f"| {' | '.join(line)} |" for line in escaped)


def _latex(headers: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    def row(cells: Sequence[str]) -> str:
        return " & ".join(_escaped(cell) for cell in cells) + r" \\"

    columns = "l" * _TEXT_COLUMNS + "r" * (len(headers) - _TEXT_COLUMNS)
    top, body = row(headers), [row(line) for line in lines]
    parts = [rf"\begin{{tabular}}{{{columns}}}", r"\toprule", top, r"\midrule", *body, r"\bottomrule"]
    return "\n".join([*parts, r"\end{tabular}"])


def _escaped(cell: str) -> str:
    text = "".join(_LATEX.get(sign, sign) for sign in cell)
    return text.replace("±", r"$\pm$").replace("–", "--")
