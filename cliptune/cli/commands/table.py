"""`cliptune table`: finished runs as a table, seeds averaged."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal

from cliptune.cli.shared.options import Flag
from cliptune.cli.shared.output import percent, remark, say
from cliptune.cli.shared.output import table as show_table
from cliptune.results.formats import (
    TEXT_COLUMNS,
    as_csv,
    as_html,
    as_latex,
    as_markdown,
    comparison_cells,
    comparisons_as_csv,
    number,
)

if TYPE_CHECKING:
    from cliptune.results import Row

_FIRST = ("test", "val", "base", "new")


def table(
    runs: str,
    /,
    *,
    format: Literal["text", "md", "csv", "latex", "html"] = "text",
    metric: Literal["accuracy", "macro_f1", "mean_per_class", "ece"] = "accuracy",
    compare: Literal["published"] | None = None,
    against: str | None = None,
    across: Literal["shots"] | None = None,
    budget: Flag = False,
) -> None:
    """Tabulate finished runs: mean ± standard deviation over seeds, one row per method and data set.

    Runs that differ in options, selection or split are never averaged; they get rows of their own that say what
    differs. HM is the harmonic mean of the averaged base and new accuracies, as the papers have it; "mean of HMs" is
    the average of the harmonic means of what a row averages, which is lower: of its seeds, or in the row "average" of
    its data sets. The standard deviation is the population's. What was trained on another data set stands apart, as
    SOURCE → TARGET, with the average over the targets alone.

    Parameters
    ----------
    runs
        Folder that holds run folders, at any depth.
    format
        text for the terminal, md, csv (full precision), latex, html (a page of its own).
    metric
        accuracy (over images), macro_f1, mean_per_class (mean recall of the classes), ece (expected calibration error,
        15 bins); all in %. `cliptune eval RUN --per-class` shows each class.
    compare
        published: below each row the numbers from the literature for the same method, protocol, data set, shots and
        backbone, with their source, whether they were read there or recalled, and how they were obtained.
    against
        A method, as the table calls it: instead of the table, what every other row has more or less than its row on
        the same data, shots, backbone and seeds, with 95 % intervals (Student's over seeds, a bootstrap's over images),
        McNemar's test, Wilcoxon's over data sets, and p-values corrected for all lines (Holm). A line says "higher" or
        "lower" only where the corrected tests tell the two apart.
    across
        shots: one line per method and data set, with a column for each number of shots.
    budget
        Show what each row took, as means over its runs: optimiser steps, images seen in them, time, and the most memory
        held. csv and html always do. Runs of earlier versions did not count.
    """
    from cliptune.results import collect, rows

    if against is not None and compare is not None:
        raise ValueError("--against compares runs of yours, and published numbers have no seeds. Drop --compare.")
    if across is not None:
        _check_across(across, {"against": against, "compare": compare, "budget": budget, "format": format == "csv"})
    if compare is not None and metric != "accuracy":
        raise ValueError(f"--metric {metric}: published numbers are accuracies. Leave out --compare or --metric.")
    skipped: list[str] = []
    made = rows(collect(runs, metric, skipped))
    for sentence in skipped:
        remark(f"Left out: {sentence}")
    if against is not None:
        _show_against(made, against, format)
        return
    if compare == "published":
        from cliptune.results.published import beside_published

        own = len(made)
        made = beside_published(made)
        if len(made) == own:
            remark(
                "No published number is known for these methods, data sets, shots and backbones. Most are for ViT-B/16 "
                "on the eleven data sets of `cliptune data plan all11`."
            )
    if across is not None:
        from cliptune.results.across import across_shots

        _show(*across_shots(made, _columns(made)), format)
        return
    show_rows(made, format, budget)


def _check_across(across: str, beside: Mapping[str, object]) -> None:
    """Raises: ValueError for an option that needs a line for each number of shots."""
    for name, given in beside.items():
        if given:
            said = "--format csv, which has the shots as a column of its own" if name == "format" else f"--{name}"
            raise ValueError(f"--across {across} does not go with {said}. Leave one of them out.")


def show_rows(made: Sequence[Row], format: str = "text", budget: bool = False) -> None:
    """A table of rows on standard output."""
    names = _columns(made)
    if format == "csv":
        sys.stdout.write(as_csv(made, names))
        return
    _show(*_cells(made, names, budget or format == "html"), format)


def _show_against(made: Sequence[Row], method: str, format: str) -> None:
    """A table of what every row has more or less than a method's, and a sentence for what could not be compared."""
    from cliptune.results import compare

    remarks: list[str] = []
    found = compare(made, method, remarks)
    for sentence in remarks:
        remark(sentence)
    if format == "csv":
        sys.stdout.write(comparisons_as_csv(found))
    else:
        _show(*comparison_cells(found, narrow=format == "text"), format)


def _show(headers: Sequence[str], lines: Sequence[Sequence[str]], format: str) -> None:
    if format == "text":
        show_table(headers, lines, left=TEXT_COLUMNS)
    else:
        say({"md": as_markdown, "latex": as_latex, "html": as_html}[format](headers, lines))


def _columns(made: Sequence[Row]) -> list[str]:
    """Evaluations that occur, the usual ones first."""
    found = dict.fromkeys(name for row in made for name in row.scores)
    return [name for name in _FIRST if name in found] + [name for name in found if name not in _FIRST]


def _cells(made: Sequence[Row], names: Sequence[str], budget: bool) -> tuple[list[str], list[list[str]]]:
    shows_hm = any(row.harmonic_mean is not None for row in made)
    averages_hm = any(row.mean_of_harmonic_means is not None for row in made if row.member_hms or len(row.seeds) > 1)
    of = "" if not made or made[0].metric == "accuracy" else f" {made[0].metric.replace('_', ' ')}"
    spreads = any("±" in number(row, name) for row in made for name in names)
    seeds = "seeds (± their sd, ddof 0)" if spreads else "seeds"
    headers = ["method", "data", "shots", seeds, *(f"{name}{of}" for name in names)]
    headers += [*(["HM"] if shows_hm else []), *(["mean of HMs"] if averages_hm else []), "learnables"]
    costs = [_spent(row) for row in made]
    # No column for cards where none was used.
    kinds = [name for name in (costs[0] if budget and costs else ()) if name != "cuda memory" or _any(costs, name)]
    headers += kinds
    compares, warns = any(row.source for row in made), any(row.caveats for row in made)
    headers += [*(["source", "known by"] if compares else []), *(["note"] if warns else [])]
    lines = []
    for row, cost in zip(made, costs, strict=True):
        lines.append(
            [
                row.method,
                row.place,
                row.images,
                ",".join(map(str, row.seeds)) or "–",
                *(number(row, name) for name in names),
                *([percent(row.harmonic_mean)] if shows_hm else []),
                *([percent(row.mean_of_harmonic_means)] if averages_hm else []),
                "–" if row.learnables is None else f"{row.learnables:,}",
                *(cost[name] for name in kinds),
                *([row.source or "these runs", row.tag or "–"] if compares else []),
                *(["; ".join(row.caveats)] if warns else []),
            ]
        )
    return headers, lines


def _spent(row: Row) -> dict[str, str]:
    """What the training took, by column: means over the runs."""
    from cliptune.timing import duration

    steps, images, seconds = (row.spent.get(name) for name in ("steps", "images", "seconds"))
    cells = {"steps": _whole(steps), "images seen": _whole(images)}
    cells["time"] = "–" if seconds is None else duration(seconds)
    for name in ("memory", "cuda memory"):
        size = row.spent.get(name)
        cells[name] = "–" if size is None else f"{size / 2**30:.2f} GiB"
    return cells


def _whole(value: float | None) -> str:
    return "–" if value is None else f"{value:,.0f}"


def _any(costs: Sequence[dict[str, str]], name: str) -> bool:
    return any(cost[name] != "–" for cost in costs)
