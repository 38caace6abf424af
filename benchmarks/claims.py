"""Runs of several seeds, what `explain` finds in each, and whether a claim about them holds; shared by the pages.

A run and what was found in it are kept in folders, so that the same command goes on where it was stopped.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import cliptune
from cliptune.data import Dataset
from cliptune.explain import OpenedRun, explain
from cliptune.explain.running import write
from cliptune.protocols import base2new, few_shot
from cliptune.results import Comparison
from cliptune.results.statistics import paired_t

SHOTS = 16
IMAGES = 150
"""Test images that each explanation looks at."""
VERDICTS = {1: "holds", 0: "undecided", -1: "does not hold"}


@dataclass(frozen=True)
class Learned:
    """A method trained on a suite, once for every seed.

    Args:
        label: of its rows and its folder.
        halves: train on base classes and score new ones, too; else train on all.
        training: further arguments of `fit`.
        continues: the runs whose last stage it goes on from.
    """

    label: str
    method: str
    suite: str
    options: Mapping[str, Any] = field(default_factory=dict)
    halves: bool = True
    training: Mapping[str, Any] = field(default_factory=dict)
    continues: Learned | None = None

    def folder(self, out: Path, seed: int) -> Path:
        return out / self.suite / self.label / f"seed{seed}"


@cache
def dataset(suite: str) -> Dataset:
    """Kept, so that its pictures are drawn once."""
    return cliptune.load_data(f"tinyworld/{suite}")


def train(what: Learned, seed: int, out: Path) -> Path:
    """Train, or find the finished run; its folder."""
    folder = what.folder(out, seed)
    further = dict(what.training)
    if what.continues is not None:
        further["continues"] = train(what.continues, seed, out)
    protocol = base2new if what.halves else few_shot
    protocol(
        what.method, cliptune.load_clip("mini"), dataset(what.suite), seed=seed, shots=SHOTS, out=folder,
        options=what.options, source={"name": f"tinyworld/{what.suite}"}, progress="silent", **further,
    )  # fmt: skip
    return folder


def findings(what: Learned, kind: str, seeds: Sequence[int], out: Path) -> list[dict[str, Any]]:
    """What `explain` finds in the run of each seed, as plain data. Raises: ValueError if there is no answer."""
    found = []
    for seed in seeds:
        run = train(what, seed, out)
        kept = run / "why" / f"{kind}.json"
        if not kept.exists():
            write(explain(OpenedRun.open(run, images=IMAGES), [kind], draw=False), kept.parent)
        told = json.loads(kept.read_text())
        if "found" not in told:
            raise ValueError(f"{what.label}, seed {seed}: {told['why_not']}")
        print(f"{what.suite}, {what.label}, seed {seed}: {told['sentence']}", flush=True)
        found.append(told["found"])
    return found


@dataclass(frozen=True)
class Claim:
    """That a number is above a bound.

    Args:
        text: what is claimed, with the unit.
        values: one for each seed that has one, as a correlation with what stays the same has none.
        bound: that the mean over seeds should be above.
        digits: after the point.
    """

    text: str
    values: Sequence[float]
    bound: float = 0.0
    digits: int = 2

    @property
    def interval(self) -> str:
        """Mean over seeds and Student's 95 % interval."""
        if len(self.values) < 2:
            return "–"
        made = paired_t(self.values).interval
        low, high = (f"{end:+.{self.digits}f}" for end in (made.low, made.high))
        return f"{made.estimate:+.{self.digits}f} [{low}, {high}]"

    @property
    def verdict(self) -> str:
        """By where the bound lies: below the interval, within it or above."""
        if len(self.values) < 2:
            return "undecided"
        return VERDICTS[paired_t([value - self.bound for value in self.values]).interval.sign]


@dataclass(frozen=True)
class Asked:
    """That one row lies above another, judged as `cliptune table --against` tells rows apart.

    Args:
        where: the suite, and what else places the two rows.
        text: what is claimed.
        found: the row less the other, corrected over all lines of its table.
    """

    where: str
    text: str
    found: Comparison

    @property
    def difference(self) -> str:
        """Mean over seeds in points, with Student's 95 % interval."""
        t = self.found.over_seeds
        if t is None or math.isinf(t.interval.low):
            return signed(self.found.difference)
        return f"{signed(t.interval.estimate)} ({signed(t.interval.low)} … {signed(t.interval.high)})"

    @property
    def p(self) -> str:
        """Of the test over seeds, corrected."""
        p = self.found.adjusted.get("seeds")
        if p is None:
            return "–"
        return "< 0.0001" if p < 0.0001 else f"{p:.2g}"

    @property
    def verdict(self) -> str:
        return VERDICTS[self.found.told_apart]


def signed(value: float) -> str:
    """One digit after the point, with a sign that is not a hyphen."""
    return f"{value:+.1f}".replace("-", "−")


def spread(values: Sequence[float], digits: int = 1) -> str:
    """Mean ± standard deviation over seeds."""
    return f"{statistics.fmean(values):.{digits}f} ± {statistics.stdev(values):.{digits}f}"


def table(*rows: Sequence[object]) -> str:
    """Markdown."""
    head, *body = [f"| {' | '.join(map(str, row))} |" for row in rows]
    return "\n".join([head, "|" + "---|" * len(rows[0]), *body])


def show(*rows: Sequence[object]) -> None:
    """A table in Markdown."""
    print(f"\n{table(*rows)}", flush=True)


def verdicts(lines: Sequence[Asked]) -> str:
    """A table in Markdown: one line per claim."""
    head = ("suite", "claim", "difference (95 %)", "p (Holm)", "verdict")
    return table(head, *((one.where, one.text, one.difference, one.p, one.verdict) for one in lines))


def show_claims(*claims: Claim) -> None:
    head = ("claim", "mean over seeds [95 % interval]", "verdict")
    show(head, *((one.text, one.interval, one.verdict) for one in claims))
