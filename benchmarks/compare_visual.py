"""Visual reprogramming on Tinyworld with mini: six experiments, one table each.

    python benchmarks/compare_visual.py                               # all of them, seeds 1 2 3
    python benchmarks/compare_visual.py --experiments methods prm --seeds 1 2 3 4 5 --out runs/visual

Every cell is a run folder, so the same command goes on where it was stopped, and experiments share their runs. Cells
run in worker processes of one thread each. Numbers are means ± population standard deviations over the seeds of the
images, their order and their crops. Tinyworld is a laboratory, not a benchmark; docs/visual-experiments.md says what
the tables show.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from statistics import fmean, median, pstdev
from typing import Any

import torch

import cliptune
from cliptune.adapter import Adapter
from cliptune.clip import CLIP
from cliptune.data.items import Dataset
from cliptune.data.loader import steps_per_epoch
from cliptune.protocols import few_shot
from cliptune.protocols.training import class_set

SHOTS = 16
METHODS = ("zeroshot", "vp", "ar", "attrvr", "dvp_cse", "dvp_cls", "dvplite", "rvp")
# Names that mean nothing, told by two causes of four; names that mean something, but two were never learned.
SUITES = ("badges", "scenes")
ONE_CAUSE = ("one_cause_shape", "one_cause_colour", "one_cause_texture")
# Enough on mini, which learns from few steps; the published 200 are for other backbones.
EPOCHS, FEWER_EPOCHS = 6, 4
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
    def settings(self) -> dict[str, Any]:
        if self.method == "zeroshot":
            return {}
        few = EPOCHS if self.suite == "badges" else FEWER_EPOCHS
        return {"epochs": 2 * few if self.shots < SHOTS else few, "batch_size": BATCH, **dict(self.options)}

    def folder(self, out: Path, seed: int) -> Path:
        options = ",".join(f"{key}={value}" for key, value in self.options) or "default"
        return out / self.backbone / self.suite / self.method / options / f"shots{self.shots}" / f"seed{seed}"


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

    def of(self, cell: Cell, what: str = "accuracy") -> list[Any]:
        return [self.results[cell, seed][what] for seed in self.seeds]

    def accuracy(self, cell: Cell) -> str:
        return spread(self.of(cell))

    def adapters(self, cell: Cell) -> list[Adapter]:
        return [cliptune.load(cell.folder(self.out, seed), clip=backbone(cell.backbone)) for seed in self.seeds]


def spread(values: Iterable[float]) -> str:
    values = list(values)
    return f"{fmean(values):.1f} ± {pstdev(values):.1f}"


def table(*rows: Sequence[object]) -> str:
    head, *body = [f"| {' | '.join(map(str, row))} |" for row in rows]
    return "\n".join([head, "|" + "---|" * len(rows[0]), *body])


# -- the experiments: cells, and the table they make ------------------------------------------------------------------


def methods_cells() -> list[Cell]:
    return [Cell(method, suite) for suite in SUITES for method in METHODS]


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
                cell.method,
                start,
                found.accuracy(cell) if steps else "–",
                f"{fmean(run[0] for run in losses):.2f} → {fmean(run[-1] for run in losses):.2f}" if steps else "–",
                f"{found.of(cell, 'learnables')[0]:,}",
                f"{median(steps):.3f}" if steps else "–",
            )
        )
    return table(*rows)


def prm_cell(suite: str, reweight: str, decoupled: bool) -> Cell:
    options = {**({} if reweight == "prm" else {"reweight": reweight}), **({} if decoupled else {"decoupled": False})}
    return Cell("dvp_cse", suite, options=tuple(options.items()))


PRM_ROWS = [(suite, reweight) for suite in SUITES for reweight in ("mean", "prm")]


def prm_cells() -> list[Cell]:
    return [prm_cell(*row, decoupled) for row in PRM_ROWS for decoupled in (False, True)]


def prm_table(found: Found) -> str:
    rows = [(*row, *(found.accuracy(prm_cell(*row, decoupled)) for decoupled in (False, True))) for row in PRM_ROWS]
    return table(("suite", "weights", "one shared pattern (%)", "a pattern per cause (%)"), *rows)


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


def partition_cells() -> list[Cell]:
    return [Cell(method, suite) for suite in (*SUITES, *ONE_CAUSE) for method in ("dvp_cse", "dvp_cls")]


def partition_table(found: Found) -> str:
    rows = [
        (suite, *(found.accuracy(Cell(method, suite)) for method in ("dvp_cse", "dvp_cls")))
        for suite in (*SUITES, *ONE_CAUSE)
    ]
    return table(("suite", "dvp_cse: by cause (%)", "dvp_cls: by cluster (%)"), *rows)


TRANSFERRED = ("ar", "dvp_cse")


def transfer_cells() -> list[Cell]:
    return [Cell(method, "scenes", backbone=name) for method in TRANSFERRED for name in ("mini", *BACKBONES)]


def transfer_table(found: Found) -> str:
    rows: list[Sequence[object]] = []
    for cell in transfer_cells():
        adapter, data = untrained(cell)
        start = cliptune.evaluate(adapter, data.test).accuracy
        moved = []
        for trained in found.adapters(Cell(cell.method, cell.suite)):
            adapter.load_learnables(trained.learnables())
            moved.append(cliptune.evaluate(adapter, data.test).accuracy)
        rows.append((cell.method, cell.backbone, f"{start:.1f}", spread(moved), found.accuracy(cell)))
    return table(("method", "backbone", "untrained (%)", "trained on mini (%)", "trained there (%)"), *rows)


EXPERIMENTS: dict[str, tuple[str, Callable[[], list[Cell]], Callable[[Found], str]]] = {
    "methods": ("All methods", methods_cells, methods_table),
    "prm": ("Reweighting and decoupling, each without the other", prm_cells, prm_table),
    "transfer": ("Patterns of one backbone on another", transfer_cells, transfer_table),
    "shots": ("Shots", shots_cells, shots_table),
    "partition": ("Causes against clusters", partition_cells, partition_table),
    "patterns": ("Number of patterns", patterns_cells, patterns_table),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--experiments", nargs="+", default=list(EXPERIMENTS), choices=list(EXPERIMENTS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--out", type=Path, default=Path("runs/visual"))
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    arguments = parser.parse_args()
    chosen = [EXPERIMENTS[name] for name in arguments.experiments]
    found = Found(arguments.out, arguments.seeds)
    cells = dict.fromkeys(cell for _, cells, _ in chosen for cell in cells())
    with ProcessPoolExecutor(arguments.processes) as pool:
        work = {pool.submit(run, cell, seed, arguments.out): (cell, seed) for cell in cells for seed in arguments.seeds}
        for number, done in enumerate(as_completed(work), start=1):
            cell, seed = work[done]
            found.results[cell, seed] = done.result()
            where = cell.folder(Path(), seed)
            print(f"{number} of {len(work)}: {where}: {found.results[cell, seed]['seconds']:.0f} s", flush=True)
    for title, _, make in chosen:
        print(f"\n{title}; {SHOTS} shots if not said, seeds {arguments.seeds}, mini\n\n{make(found)}", flush=True)


if __name__ == "__main__":
    main()
