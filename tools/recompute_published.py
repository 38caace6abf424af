"""Which published averages and harmonic means do not follow from the numbers printed beside them.

    python tools/recompute_published.py

Every average in `cliptune/results/published_results.csv` whose data sets are all in the file is computed again by the
code that makes our own tables, and every harmonic mean from its base and new accuracy. The two tables in
docs/published.md are what this prints.
"""

from __future__ import annotations

from cliptune.data.metrics import harmonic_mean
from cliptune.results.formats import as_markdown
from cliptune.results.published import published_rows, recomputed_averages
from cliptune.results.tables import AVERAGE

ROUNDING = 0.02
"""Numbers with two decimals, averaged and rounded again, differ by no more."""


def differing_averages() -> list[list[str]]:
    """A line for each printed average that is further from ours than rounding goes."""
    lines = []
    for printed, own in recomputed_averages():
        measured = {name: (printed.mean(name), own.mean(name)) for name in printed.scores}
        if printed.printed_hm is not None:
            measured["HM"] = (printed.printed_hm, own.harmonic_mean)
        for name, (theirs, ours) in measured.items():
            if theirs is not None and ours is not None and abs(theirs - ours) > ROUNDING + 1e-9:
                shots = "–" if printed.shots is None else str(printed.shots)
                what = [printed.host, printed.backbone, printed.trained, shots, name]
                lines.append([*what, f"{theirs:.2f}", f"{ours:.2f}", printed.source])
    return lines


def differing_harmonic_means() -> list[list[str]]:
    """A line for each printed harmonic mean that is further from that of its base and new than rounding goes."""
    lines = []
    for row in published_rows():
        base, new, printed = row.mean("base"), row.mean("new"), row.printed_hm
        if base is None or new is None or printed is None:
            continue
        own = harmonic_mean(base, new)
        if abs(own - printed) > ROUNDING + 1e-9:
            lines.append([row.host, row.data, f"{base:.2f}", f"{new:.2f}", f"{printed:.2f}", f"{own:.2f}", row.source])
    return lines


def report() -> str:
    """Both tables, with how much was computed again."""
    printed = sum(row.data == AVERAGE for row in published_rows())
    means = sum(None not in (row.printed_hm, row.mean("base"), row.mean("new")) for row in published_rows())
    averages = ["method", "backbone", "protocol", "shots", "number", "printed", "computed", "source"]
    harmonic = ["method", "data", "base", "new", "printed", "computed", "source"]
    return "\n\n".join(
        [
            f"{len(recomputed_averages())} of {printed} averages have all their data sets in the file and were "
            f"computed again. Differences above {ROUNDING}:",
            as_markdown(averages, differing_averages(), left=len(averages)),
            f"{means} harmonic means were computed again. Differences above {ROUNDING}:",
            as_markdown(harmonic, differing_harmonic_means(), left=len(harmonic)),
        ]
    )


if __name__ == "__main__":
    print(report())
