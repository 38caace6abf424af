"""Visual reprogramming on Tinyworld with mini: six experiments, a table of accuracies and its verdicts each.

    python benchmarks/compare_visual.py                               # all of them, seeds 1 2 3 4 5
    python benchmarks/compare_visual.py --experiments methods prm --seeds 1 2 3 --out runs/visual

Every cell is a run folder, so the same command goes on where it was stopped, and experiments share their runs. Cells
run in worker processes of one thread each. Numbers are means ± population standard deviations over the seeds of the
images, their order and their crops. Below each table stands what the papers claim of its rows: differences paired by
seed, with Student's 95 % interval, p corrected over the lines (Holm), and a verdict as `cliptune table --against` has
it. Tinyworld is a laboratory, not a benchmark; docs/visual-experiments.md says what the tables show.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from statistics import fmean, median, pstdev
from typing import Any

import torch
from claims import Asked, table, verdicts

import cliptune
from cliptune.adapter import Adapter
from cliptune.clip import CLIP
from cliptune.data.items import Dataset
from cliptune.data.loader import steps_per_epoch
from cliptune.protocols import few_shot
from cliptune.protocols.training import class_set
from cliptune.results import Comparison, Row, collect, compare_pairs, corrected
from cliptune.results import rows as rows_of
from cliptune.results.statistics import paired_t

SHOTS = 16
METHODS = ("zeroshot", "vp", "ar", "attrvr", "dvp_cse", "dvp_cls", "dvplite", "rvp")
# Names that mean nothing, told by two causes of four; names that mean something, but two were never learned.
SUITES = ("badges", "scenes")
ONE_CAUSE = ("one_cause_shape", "one_cause_colour", "one_cause_texture")
# Enough on mini, which learns from few steps; the published 200 are for other backbones.
EPOCHS, FEWER_EPOCHS = 6, 4
# Controls where the short runs are too short: for patterns on scenes, and for causes on one_cause_shape.
LONG, LONGER = 24, 8
BATCH = 16
BACKBONES = ("rounded", "noisy", "pruned")


@dataclass(frozen=True)
class Cell:
    """What is run for each seed."""

    method: str
    suite: str = "badges"
    shots: int = SHOTS
    options: tuple[tuple[str, Any], ...] = ()
    backbone: str = "mini"

    @property
    def label(self) -> str:
        told = (f"{value} epochs" if name == "epochs" else f"{name}={value}" for name, value in self.options)
        return ", ".join((self.method, *told))

    @property
    def settings(self) -> dict[str, Any]:
        if self.method == "zeroshot":
            return {}
        few = EPOCHS if self.suite == "badges" else FEWER_EPOCHS
        return {"epochs": 2 * few if self.shots < SHOTS else few, "batch_size": BATCH, **dict(self.options)}

    def folder(self, out: Path, seed: int) -> Path:
        options = ",".join(f"{key}={value}" for key, value in self.options) or "default"
        return out / self.backbone / self.suite / self.method / options / f"shots{self.shots}" / f"seed{seed}"


@dataclass(frozen=True)
class Question:
    """Whether one cell beats another of the same suite and shots."""

    claim: str
    cell: Cell
    against: Cell

    @property
    def where(self) -> str:
        return self.cell.suite if self.cell.shots == SHOTS else f"{self.cell.suite}, shots: {self.cell.shots}"


@cache
def backbone(name: str) -> CLIP:
    """mini, or a neighbour of it: the matrices of its image blocks rounded to bfloat16, with noise of two
    fifths of their standard deviation, or without the smallest 60 % of their entries.
    """
    clip = cliptune.load_clip("mini")
    generator = torch.Generator().manual_seed(0)
    for weight in (p for p in clip.image.transformer.parameters() if p.ndim == 2):
        if name == "rounded":
            weight.data = weight.data.bfloat16().float()
        elif name == "noisy":
            weight.data += 0.4 * weight.std() * torch.randn(weight.shape, generator=generator)
        elif name == "pruned":
            weight.data *= weight.abs() > weight.abs().flatten().quantile(0.6)
    if name != "mini":
        clip.name, clip.origin = f"mini, {name}", {}
    return clip


@cache
def dataset(suite: str) -> Dataset:
    """Kept, so that its pictures are drawn once."""
    return cliptune.load_data(f"tinyworld/{suite}", test=30)


def untrained(cell: Cell) -> tuple[Adapter, Dataset]:
    data = dataset(cell.suite)
    return cliptune.build(cell.method, backbone(cell.backbone), class_set(data), **cell.settings).adapter, data


def run(cell: Cell, seed: int, out: Path) -> dict[str, Any]:
    """One run, or the finished one found in its folder."""
    torch.set_num_threads(1)
    clip, data = backbone(cell.backbone), dataset(cell.suite)
    folder = cell.folder(out, seed)
    result = few_shot(
        cell.method, clip, data, shots=cell.shots, seed=seed, out=folder, options=cell.settings, progress="silent",
    )  # fmt: skip
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()] if cell.settings else []
    trained = [line for line in lines if "loss" in line]
    steps = len(trained) * steps_per_epoch(result["train_images"], BATCH, drop_last=False)
    return {
        "accuracy": result["evaluations"]["test"]["accuracy"],
        "learnables": result["learnables"],
        "losses": [line["loss"] for line in trained],
        "seconds": result["seconds"],
        "step": sum(line["seconds"] for line in trained) / steps if steps else None,
    }


class Found:
    """The results of all seeds of all cells."""

    def __init__(self, out: Path, seeds: Sequence[int]) -> None:
        self.out, self.seeds = out, seeds
        self.results: dict[tuple[Cell, int], dict[str, Any]] = {}
        self._transferred: dict[Cell, tuple[float, list[float]]] = {}

    def of(self, cell: Cell, what: str = "accuracy") -> list[Any]:
        return [self.results[cell, seed][what] for seed in self.seeds]

    def accuracy(self, cell: Cell) -> str:
        return spread(self.of(cell))

    def adapters(self, cell: Cell) -> list[Adapter]:
        return [cliptune.load(cell.folder(self.out, seed), clip=backbone(cell.backbone)) for seed in self.seeds]

    def transfers(self, cell: Cell) -> tuple[float, list[float]]:
        if cell not in self._transferred:
            self._transferred[cell] = transferred(self, cell)
        return self._transferred[cell]

    def row(self, cell: Cell) -> Row:
        runs = [one for seed in self.seeds for one in collect(cell.folder(self.out, seed))]
        (row,) = rows_of(runs)
        return row

    def asked(self, questions: Sequence[Question]) -> list[Asked]:
        """The questions of one table with their answers, corrected over all of them."""
        remarks: list[str] = []
        found = compare_pairs([(self.row(one.cell), self.row(one.against)) for one in questions], remarks)
        assert not remarks, remarks[0]
        return [Asked(one.where, one.claim, answer) for one, answer in zip(questions, found, strict=True)]


def spread(values: Iterable[float]) -> str:
    values = list(values)
    return f"{fmean(values):.1f} ± {pstdev(values):.1f}"


# -- the experiments: cells, the table they make, and what is asked of it ---------------------------------------------


def long_cell(method: str) -> Cell:
    return Cell(method, "scenes", options=(("epochs", LONG),))


def joint_cell(suite: str) -> Cell:
    """Shown, and not asked of: its answers are those of `dvp_cse` with one shared pattern, which `prm` asks of."""
    return Cell("dvplite", suite, options=(("gradient", "joint"),))


def methods_cells() -> list[Cell]:
    usual = [Cell(method, suite) for suite in SUITES for method in METHODS]
    return [*usual, *map(joint_cell, SUITES), long_cell("attrvr"), long_cell("rvp")]


def methods_table(found: Found) -> str:
    rows: list[Sequence[object]] = [
        ("suite", "method", "untrained (%)", "trained (%)", "loss, first → last epoch", "learned values", "s / step")
    ]
    for cell in methods_cells():
        adapter, data = untrained(cell)
        start = f"{cliptune.evaluate(adapter, data.test).accuracy:.1f}"
        losses, steps = found.of(cell, "losses"), [step for step in found.of(cell, "step") if step is not None]
        rows.append(
            (
                cell.suite,
                cell.label,
                start,
                found.accuracy(cell) if steps else "–",
                f"{fmean(run[0] for run in losses):.2f} → {fmean(run[-1] for run in losses):.2f}" if steps else "–",
                f"{found.of(cell, 'learnables')[0]:,}",
                f"{median(steps):.3f}" if steps else "–",
            )
        )
    return table(*rows)


PAPERS = (("vp", "zeroshot"), ("attrvr", "ar"), ("dvp_cse", "attrvr"), ("dvp_cse", "dvplite"))


def methods_questions() -> dict[str, list[Question]]:
    beats = lambda suite, a, b: Question(f"{a} beats {b}", Cell(a, suite), Cell(b, suite))
    beside = [beats(suite, method, "vp") for suite in SUITES for method in METHODS if method not in ("zeroshot", "vp")]
    papers = [beats(suite, *pair) for suite in SUITES for pair in PAPERS]
    papers += [
        Question(f"rvp, {LONG} epochs, beats rvp", long_cell("rvp"), Cell("rvp", "scenes")),
        Question(f"rvp beats attrvr, both {LONG} epochs", long_cell("rvp"), long_cell("attrvr")),
    ]
    return {"beside vp": beside, "what the papers claim": papers}


def prm_cell(suite: str, reweight: str, decoupled: bool) -> Cell:
    options = {**({} if reweight == "prm" else {"reweight": reweight}), **({} if decoupled else {"decoupled": False})}
    return Cell("dvp_cse", suite, options=tuple(options.items()))


PRM_ROWS = [(suite, reweight) for suite in SUITES for reweight in ("mean", "prm")]


def prm_cells() -> list[Cell]:
    return [prm_cell(*row, decoupled) for row in PRM_ROWS for decoupled in (False, True)]


def prm_table(found: Found) -> str:
    rows = [(*row, *(found.accuracy(prm_cell(*row, decoupled)) for decoupled in (False, True))) for row in PRM_ROWS]
    return table(("suite", "weights", "one shared pattern (%)", "a pattern per cause (%)"), *rows)


def prm_questions() -> dict[str, list[Question]]:
    patterns = {False: "one shared pattern", True: "a pattern per cause"}
    weights = [
        Question(f"PRM beats mean weights, {many}", prm_cell(suite, "prm", of), prm_cell(suite, "mean", of))
        for suite in SUITES
        for of, many in patterns.items()
    ]
    causes = [
        Question(
            f"a pattern per cause beats one, {kind} weights", prm_cell(suite, kind, True), prm_cell(suite, kind, False)
        )
        for suite, kind in PRM_ROWS
    ]
    return {"reweighting": weights, "decoupling": causes}


HEADS: dict[str, dict[str, Any]] = {
    "mean": {"reweight": "mean"},
    "max": {"reweight": "max"},
    "PRM": {"smoothing": 0.0},
    "PRM, smoothed": {},
}
SHOT_COUNTS = (1, 2, 4, 8, 16)
SHOT_ROWS = [(suite, head) for suite in SUITES for head in HEADS]


def shots_cell(suite: str, head: str, shots: int) -> Cell:
    # from 16 shots on, nothing is smoothed
    options = {} if "PRM" in head and shots >= SHOTS else HEADS[head]
    return Cell("dvp_cse", suite, shots, tuple({**options, "decoupled": False}.items()))


def shots_cells() -> list[Cell]:
    return list(dict.fromkeys(shots_cell(*row, shots) for row in SHOT_ROWS for shots in SHOT_COUNTS))


def shots_table(found: Found) -> str:
    rows = [(*row, *(found.accuracy(shots_cell(*row, shots)) for shots in SHOT_COUNTS)) for row in SHOT_ROWS]
    return table(("suite", "head, one shared pattern", *(f"{shots} shots (%)" for shots in SHOT_COUNTS)), *rows)


SHOT_QUESTIONS = (("PRM", "mean"), ("PRM, smoothed", "PRM"), ("PRM, smoothed", "mean"), ("max", "mean"))


def shots_questions() -> dict[str, list[Question]]:
    found: dict[str, list[Question]] = {}
    for first, second in SHOT_QUESTIONS:
        claim = f"{first} beats {second}" + (" weights" if second == "mean" else "")
        pairs = [(shots_cell(s, first, n), shots_cell(s, second, n)) for s in SUITES for n in SHOT_COUNTS]
        found[claim] = [Question(claim, a, b) for a, b in pairs if a != b]
    return found


def patterns_cell(patterns: int) -> Cell:
    return Cell("dvp_cls", options=() if patterns == 3 else (("clusters", patterns),))


def patterns_cells() -> list[Cell]:
    return [patterns_cell(patterns) for patterns in range(1, 6)]


def patterns_table(found: Found) -> str:
    rows = [
        (
            patterns,
            found.accuracy(cell),
            f"{found.of(cell, 'learnables')[0]:,}",
            f"{median(found.of(cell, 'step')):.3f}",
        )
        for patterns, cell in enumerate(patterns_cells(), start=1)
    ]
    return table(("patterns v", "accuracy (%)", "learned values", "s / step"), *rows)


def patterns_questions() -> dict[str, list[Question]]:
    pairs = [(v, 1) for v in range(2, 6)] + [(v + 1, v) for v in range(2, 5)]
    claim = "v = {} beats v = {}".format
    return {"number": [Question(claim(*pair), *map(patterns_cell, pair)) for pair in pairs]}


def partition_pairs() -> dict[str, tuple[Cell, Cell]]:
    """Label of a line → causes, clusters."""
    pairs = {suite: (Cell("dvp_cse", suite), Cell("dvp_cls", suite)) for suite in (*SUITES, *ONE_CAUSE)}
    longer = [Cell(method, "one_cause_shape", options=(("epochs", LONGER),)) for method in ("dvp_cse", "dvp_cls")]
    return {**pairs, f"one_cause_shape, {LONGER} epochs": (longer[0], longer[1])}


def partition_cells() -> list[Cell]:
    return [cell for pair in partition_pairs().values() for cell in pair]


def partition_table(found: Found) -> str:
    rows = [(label, *map(found.accuracy, pair)) for label, pair in partition_pairs().items()]
    return table(("suite", "dvp_cse: by cause (%)", "dvp_cls: by cluster (%)"), *rows)


def partition_questions() -> dict[str, list[Question]]:
    claim = "causes beat clusters"
    lines = [Question(claim + label.removeprefix(pair[0].suite), *pair) for label, pair in partition_pairs().items()]
    return {claim: lines}


TRANSFERRED = ("ar", "dvp_cse")


def transfer_cells() -> list[Cell]:
    return [Cell(method, "scenes", backbone=name) for method in TRANSFERRED for name in ("mini", *BACKBONES)]


def transferred(found: Found, cell: Cell) -> tuple[float, list[float]]:
    """Accuracy of a cell's backbone untrained, and with the patterns that mini learned, for each seed."""
    adapter, data = untrained(cell)
    start, moved = cliptune.evaluate(adapter, data.test).accuracy, []
    for trained in found.adapters(Cell(cell.method, cell.suite)):
        adapter.load_learnables(trained.learnables())
        moved.append(cliptune.evaluate(adapter, data.test).accuracy)
    return start, moved


def transfer_table(found: Found) -> str:
    lines: list[Sequence[object]] = []
    for cell in transfer_cells():
        start, moved = found.transfers(cell)
        lines.append((cell.method, cell.backbone, f"{start:.1f}", spread(moved), found.accuracy(cell)))
    return table(("method", "backbone", "untrained (%)", "trained on mini (%)", "trained there (%)"), *lines)


def transfer_asked(found: Found) -> dict[str, list[Asked]]:
    """By the test over seeds alone, since a pattern on another backbone is no run that keeps its answers."""
    made: list[tuple[str, str, Comparison]] = []
    for cell in (one for one in transfer_cells() if one.backbone != "mini"):
        (start, moved), row = found.transfers(cell), found.row(cell)
        there, still = found.of(cell), [start] * len(moved)
        for claim, values, before in (
            ("trained on mini beats untrained", moved, still),
            ("trained there beats trained on mini", there, moved),
        ):
            differences = [b - a for a, b in zip(before, values, strict=True)]
            t = paired_t(differences) if len(differences) > 1 else None
            one = Comparison(row, row, "test", tuple(found.seeds), tuple(values), tuple(before), over_seeds=t)
            made.append((f"{cell.suite}, {cell.backbone}", f"{cell.method}: {claim}", one))
    answers = corrected([one for _, _, one in made])
    return {"transfer": [Asked(*of[:2], one) for of, one in zip(made, answers, strict=True)]}


@dataclass(frozen=True)
class Experiment:
    """A table of cells; `asked` gives the tables of verdicts below it, by name."""

    title: str
    cells: Callable[[], list[Cell]]
    table: Callable[[Found], str]
    asked: Callable[[Found], Mapping[str, Sequence[Asked]]]


def by_questions(of: Callable[[], Mapping[str, Sequence[Question]]]) -> Callable[[Found], dict[str, list[Asked]]]:
    return lambda found: {name: found.asked(questions) for name, questions in of().items()}


EXPERIMENTS = {
    "methods": Experiment("All methods", methods_cells, methods_table, by_questions(methods_questions)),
    "prm": Experiment(
        "Reweighting and decoupling, each without the other", prm_cells, prm_table, by_questions(prm_questions)
    ),
    "transfer": Experiment("Patterns of one backbone on another", transfer_cells, transfer_table, transfer_asked),
    "shots": Experiment("Shots", shots_cells, shots_table, by_questions(shots_questions)),
    "partition": Experiment(
        "Causes against clusters", partition_cells, partition_table, by_questions(partition_questions)
    ),
    "patterns": Experiment("Number of patterns", patterns_cells, patterns_table, by_questions(patterns_questions)),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--experiments", nargs="+", default=list(EXPERIMENTS), choices=list(EXPERIMENTS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 4, 5])
    parser.add_argument("--out", type=Path, default=Path("runs/visual"))
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    arguments = parser.parse_args()
    chosen = [EXPERIMENTS[name] for name in arguments.experiments]
    found = Found(arguments.out, arguments.seeds)
    cells = dict.fromkeys(cell for experiment in chosen for cell in experiment.cells())
    with ProcessPoolExecutor(arguments.processes) as pool:
        work = {pool.submit(run, cell, seed, arguments.out): (cell, seed) for cell in cells for seed in arguments.seeds}
        for number, done in enumerate(as_completed(work), start=1):
            cell, seed = work[done]
            found.results[cell, seed] = done.result()
            where = cell.folder(Path(), seed)
            print(f"{number} of {len(work)}: {where}: {found.results[cell, seed]['seconds']:.0f} s", flush=True)
    for one in chosen:
        print(f"\n{one.title}; {SHOTS} shots if not said, seeds {found.seeds}, mini\n\n{one.table(found)}", flush=True)
        for name, lines in one.asked(found).items():
            print(f"\nVerdicts: {name}\n\n{verdicts(lines)}", flush=True)


if __name__ == "__main__":
    main()
