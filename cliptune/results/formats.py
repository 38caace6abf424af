"""A table as Markdown, CSV, LaTeX or a page of HTML."""

from __future__ import annotations

import csv
import html
import io
import math
import statistics
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cliptune.results import Row
    from cliptune.results.against import Comparison
    from cliptune.results.statistics import Interval

TEXT_COLUMNS = 2
_LATEX = {"&": r"\&", "%": r"\%", "_": r"\_", "#": r"\#", "$": r"\$", "{": r"\{", "}": r"\}"}
_STYLE = "body{font:15px sans-serif}td,th{padding:.2em .8em;text-align:right}th{border-bottom:1px solid}"
_LEFT = "td:nth-child(-n+2),th:nth-child(-n+2){text-align:left}"


def number(row: Row, name: str) -> str:
    """A row's mean of one evaluation, with its standard deviation over the seeds where there are several."""
    mean, std = row.mean(name), row.std(name)
    if mean is None:
        return "–"
    return f"{mean:.2f}" if std is None or len(row.seeds) < 2 else f"{mean:.2f} ± {std:.2f}"


def as_csv(made: Sequence[Row], names: Sequence[str]) -> str:
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    spread = [word for name in names for word in (name, f"{name}_std")]
    writer.writerow(
        ["method", "data", "shots", "seeds", *spread, "harmonic_mean", "mean_of_harmonic_means", "learnables"]
        + ["source", "tag", "note", "steps", "images_seen", "seconds", "peak_memory_bytes", "peak_cuda_memory_bytes"]
    )
    for row in made:
        numbers = [value for name in names for value in (row.mean(name), row.std(name))]
        numbers += [row.harmonic_mean, row.mean_of_harmonic_means, row.learnables]
        shown = ["" if value is None else repr(value) for value in numbers]
        note = "; ".join(row.caveats)
        writer.writerow(
            [row.method, row.place, row.images, " ".join(map(str, row.seeds)), *shown, row.source, row.tag, note]
            + [row.spent.get(name, "") for name in ("steps", "images", "seconds", "memory", "cuda memory")]
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
    text = text.replace("±", r"$\pm$").replace("–", "--").replace("→", r"$\to$").replace("…", r"\dots{}")
    return text.replace("< ", r"$<$ ")


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


def comparison_cells(found: Sequence[Comparison], narrow: bool = False) -> tuple[list[str], list[list[str]]]:
    """Headers and lines of comparisons with one method; a column that would say nothing is left out.

    Args:
        narrow: leave out shots and seeds as well, if they are the same everywhere.
    """
    columns: list[tuple[str, Callable[[Comparison], str]]] = [
        ("method", lambda one: one.row.method),
        ("data", lambda one: one.row.place),
        ("shots", lambda one: one.row.images),
        ("seeds", lambda one: ",".join(map(str, one.seeds))),
        ("measure", lambda one: one.measure),
        ("mean ± sd of seeds (ddof 0)", lambda one: _spread(one.values)),
        (f"that of {found[0].reference.host}", lambda one: _spread(one.reference_values)),
        ("difference", lambda one: f"{one.difference:+.2f}"),
        ("95 % over seeds", lambda one: _interval(one.over_seeds.interval if one.over_seeds else None)),
        ("p (Holm)", lambda one: _p(one.adjusted.get("seeds"))),
        ("95 % over images", lambda one: _interval(one.over_images)),
        ("right alone", lambda one: _pair(one)),
        ("McNemar p (Holm)", lambda one: _p(one.adjusted.get("answers"))),
        ("wins/ties/losses", lambda one: _wins(one)),
        ("Wilcoxon p (Holm)", lambda one: _p(one.adjusted.get("data"))),
        ("told apart", lambda one: {1: "higher", -1: "lower"}.get(one.told_apart, "no")),
        ("note", lambda one: "; ".join(one.row.caveats)),
    ]
    same = {"shots", "seeds"} if narrow else set()
    kept = [
        (header, cell)
        for header, cell in columns
        if any(cell(one) not in ("", "–") for one in found)
        and not (header in same and len({cell(one) for one in found}) == 1)
    ]
    return [header for header, _ in kept], [[cell(one) for _, cell in kept] for one in found]


def comparisons_as_csv(found: Sequence[Comparison]) -> str:
    """Comparisons with one method, in full precision."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(
        ["method", "against", "data", "shots", "seeds", "measure", "mean", "std", "against_mean", "against_std"]
        + ["difference", "seeds_low", "seeds_high", "seeds_p", "seeds_p_holm", "images_low", "images_high"]
        + ["right_alone", "against_right_alone", "mcnemar_p", "mcnemar_p_holm"]
        + ["wins", "ties", "losses", "wilcoxon_p", "wilcoxon_p_holm", "told_apart", "note"]
    )
    for one in found:
        t, images, answers, data = one.over_seeds, one.over_images, one.answers, one.over_data
        numbers: list[float | None] = [statistics.fmean(one.values), statistics.pstdev(one.values)]
        numbers += [statistics.fmean(one.reference_values), statistics.pstdev(one.reference_values), one.difference]
        numbers += [t.interval.low, t.interval.high, t.p] if t else [None] * 3
        numbers += [one.adjusted.get("seeds"), *((images.low, images.high) if images else (None, None))]
        numbers += [answers.only_second, answers.only_first, answers.p] if answers else [None] * 3
        numbers += [one.adjusted.get("answers"), *((data.wins, data.ties, data.losses, data.p) if data else [None] * 4)]
        numbers += [one.adjusted.get("data"), one.told_apart]
        shown = ["" if value is None else repr(value) for value in numbers]
        about = [one.row.method, one.reference.method, one.row.place, one.row.images, " ".join(map(str, one.seeds))]
        writer.writerow([*about, one.measure, *shown, "; ".join(one.row.caveats)])
    return file.getvalue()


def _spread(values: Sequence[float]) -> str:
    mean = f"{statistics.fmean(values):.2f}"
    return mean if len(values) < 2 else f"{mean} ± {statistics.pstdev(values):.2f}"


def _interval(interval: Interval | None) -> str:
    if interval is None or math.isinf(interval.low):
        return "–"
    return f"{interval.low:+.2f} … {interval.high:+.2f}"


def _p(value: float | None) -> str:
    if value is None:
        return "–"
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def _pair(one: Comparison) -> str:
    return "–" if one.answers is None else f"{one.answers.only_second}:{one.answers.only_first}"


def _wins(one: Comparison) -> str:
    return "–" if one.over_data is None else f"{one.over_data.wins}/{one.over_data.ties}/{one.over_data.losses}"
