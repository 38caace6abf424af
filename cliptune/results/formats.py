"""A table as Markdown, CSV, LaTeX or a page of HTML."""

from __future__ import annotations

import csv
import html
import io
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cliptune.results import Row

TEXT_COLUMNS = 2
_LATEX = {"&": r"\&", "%": r"\%", "_": r"\_", "#": r"\#", "$": r"\$", "{": r"\{", "}": r"\}"}
_STYLE = "body{font:15px sans-serif}td,th{padding:.2em .8em;text-align:right}th{border-bottom:1px solid}"
_LEFT = "td:nth-child(-n+2),th:nth-child(-n+2){text-align:left}"


def as_csv(made: Sequence[Row], names: Sequence[str]) -> str:
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    spread = [word for name in names for word in (name, f"{name}_std")]
    writer.writerow(
        ["method", "data", "shots", "seeds", *spread, "harmonic_mean", "mean_of_harmonic_means", "learnables"]
        + ["source", "tag", "note"]
    )
    for row in made:
        numbers = [value for name in names for value in (row.mean(name), row.std(name))]
        numbers += [row.harmonic_mean, row.mean_of_harmonic_means, row.learnables]
        shown = ["" if value is None else repr(value) for value in numbers]
        note = "; ".join(row.caveats)
        writer.writerow(
            [row.method, row.place, row.images, " ".join(map(str, row.seeds)), *shown, row.source, row.tag, note]
        )
    return file.getvalue()


def as_markdown(headers: Sequence[str], lines: Iterable[Sequence[str]], left: int = TEXT_COLUMNS) -> str:
    """Args: left: how many columns are text; the others are numbers."""
    ruler = ["---"] * left + ["---:"] * (len(headers) - left)
    escaped = [[cell.replace("|", r"\|") for cell in line] for line in (headers, ruler, *lines)]
    return "\n".join(f"| {' | '.join(line)} |" for line in escaped)


def as_latex(headers: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    def row(cells: Sequence[str]) -> str:
        return " & ".join(_escaped(cell) for cell in cells) + r" \\"

    columns = "l" * TEXT_COLUMNS + "r" * (len(headers) - TEXT_COLUMNS)
    top, body = row(headers), [row(line) for line in lines]
    parts = [rf"\begin{{tabular}}{{{columns}}}", r"\toprule", top, r"\midrule", *body, r"\bottomrule"]
    return "\n".join([*parts, r"\end{tabular}"])


def _escaped(cell: str) -> str:
    text = "".join(_LATEX.get(sign, sign) for sign in cell)
    return text.replace("±", r"$\pm$").replace("–", "--").replace("→", r"$\to$")


def as_html(headers: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A page that needs nothing else; whatever names and paths hold is text in it."""

    def row(tag: str, cells: Sequence[str]) -> str:
        return "<tr>" + "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells) + "</tr>"

    body = "\n".join(row("td", line) for line in lines)
    return (
        f'<!doctype html>\n<html lang="en">\n<head><meta charset="utf-8"><title>Results</title>'
        f"<style>{_STYLE}{_LEFT}</style></head>\n<body>\n<table>\n<thead>{row('th', headers)}</thead>\n"
        f"<tbody>\n{body}\n</tbody>\n</table>\n</body>\n</html>"
    )
