"""Base-to-new accuracy of methods and stacks of add-ons on a Tinyworld suite: one command, one table.

    python benchmarks/compare_methods.py --suite tinyworld/aquarium --seeds 1 2 3 --out runs/compare

All deep learners take 50 epochs; rates that are neither published nor defaults were chosen on seed 4, which is not
among those reported. Each cell is a run folder, so the same command goes on where it was stopped. Cells run in worker
processes of one thread each. The table gives mean ± population standard deviation over the seeds, the harmonic mean of
the averages, the learned values, and seconds of one core's time per optimiser step of the stage trained last. Tinyworld
is a laboratory, not a benchmark.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

import cliptune
from cliptune.data.metrics import harmonic_mean
from cliptune.files import atomic_write_text
from cliptune.protocols import base2new
from cliptune.training.progress import Silent

SHOTS = 16
METHODS = (
    "zeroshot", "coop", "kgcoop", "cocoop", "vpt", "ivlp", "maple", "promptsrc", "promptkd", "bias_tuning", "clip_lora",
    "tip_adapter", "tip_adapter_f", "linear_probe", "coop+rlp", "ivlp+rlp", "maple+rlp", "coop+dpc", "ivlp+dpc",
    "maple+dpc", "ivlp+dapt", "maple+dapt", "maple+bias", "coop+rlp+dpc", "maple+dapt+dpc",
)  # fmt: skip
# CoOp as published for base-to-new. PromptSRC's average over epochs has its published place and width in proportion.
# Rates, RLP's dropout and DPC's ω: chosen on seed 4.
OPTIONS: dict[str, dict[str, Any]] = {
    "coop": {"epochs": 200},
    "kgcoop": {"epochs": 200},
    "cocoop": {"epochs": 50},
    "vpt": {"epochs": 50},
    "ivlp": {"epochs": 50},
    "maple": {"epochs": 50},
    "promptsrc": {"epochs": 50, "gpa_mean": 37.5, "gpa_std": 2.5},
    "promptkd": {"epochs": 50},
    "bias_tuning": {"epochs": 50, "lr": 0.08},
    "clip_lora": {"epochs": 60, "lr": 2e-3},
    "rlp": {"rlp_lr_scale": 16.0, "rlp_dropout": 0.0},
    "dpc": {"dpc_epochs": 20, "dpc_base_weight": 1.0},
}
# Learners of text alone take their image features from eight augmented views per image instead of new ones each epoch.
TEXT_ALONE = {"coop", "kgcoop", "rlp", "dpc"}
VIEWS = 8
TEACHER = "maple"
COST = "cost.json"


@dataclass(frozen=True)
class Job:
    """One line of a table: a method with options, under a label."""

    label: str
    method: str
    options: Mapping[str, Any] = field(default_factory=dict)


class Stopwatch(Silent):
    """One core's seconds from each optimiser step of a run to the next."""

    def __init__(self) -> None:
        self.steps = 0
        self._first = self._last = 0.0

    def advance(self, description: str) -> None:
        self._last = time.process_time()
        if self.steps == 0:
            self._first = self._last
        self.steps += 1

    def seconds_per_step(self) -> float | None:
        return (self._last - self._first) / (self.steps - 1) if self.steps > 1 else None


def jobs_of(methods: Sequence[str]) -> list[Job]:
    """Each method with its options of `OPTIONS`."""
    return [Job(method, method, options_of(method)) for method in methods]


def options_of(method: str) -> dict[str, Any]:
    return {key: value for part in method.split("+") for key, value in OPTIONS.get(part, {}).items()}


def run(job: Job, suite: str, seed: int, out: str) -> dict[str, Any]:
    """One run, or the finished one found in its folder; with seconds per step where this call took all its steps."""
    torch.set_num_threads(1)
    clip, data = cliptune.load_clip("mini"), cliptune.load_data(suite)
    here = Path(out) / suite.replace("/", "_")
    folder = here / job.label / f"seed{seed}"
    options = dict(job.options)
    further: dict[str, Any] = {}
    parts = job.method.split("+")
    if parts[0] in ("coop", "kgcoop") and set(parts) <= TEXT_ALONE:
        further["views"] = VIEWS
    if parts[0] == "promptkd":
        teacher = jobs_of([TEACHER])[0]
        run(teacher, suite, seed, out)
        options["teacher"] = here / TEACHER / f"seed{seed}"
    if parts[-1] == "dpc" and (here / "+".join(parts[:-1]) / f"seed{seed}" / "result.json").exists():
        further["continues"] = here / "+".join(parts[:-1]) / f"seed{seed}"
    watch = Stopwatch()
    result = base2new(
        job.method, clip, data, seed, SHOTS, folder, options=options, source={"name": suite}, progress=watch, **further
    )
    cost = folder / COST
    if watch.steps and not cost.exists():
        atomic_write_text(cost, json.dumps({"step_seconds": watch.seconds_per_step()}))
    step_seconds = json.loads(cost.read_text())["step_seconds"] if cost.exists() else None
    return {**result, "seed": seed, "step_seconds": step_seconds}


def run_all(
    jobs: Sequence[Job], suite: str, seeds: Sequence[int], out: str, processes: int | None
) -> dict[str, list[dict[str, Any]]]:
    """Label → results in the order of the seeds; prints each as it comes."""
    found: dict[str, list[dict[str, Any]]] = {}
    with ProcessPoolExecutor(processes) as pool:
        work = {pool.submit(run, job, suite, seed, out): job for job in jobs for seed in seeds}
        for number, done in enumerate(as_completed(work), start=1):
            result, job = done.result(), work[done]
            found.setdefault(job.label, []).append(result)
            scores = ", ".join(f"{half} {result[half]:.1f}" for half in ("base", "new") if result[half] is not None)
            print(f"{number} of {len(work)}: {job.label}, seed {result['seed']}: {scores}", flush=True)
    return {label: sorted(results, key=lambda r: r["seed"]) for label, results in found.items()}


def spread(values: Sequence[float]) -> str:
    return f"{statistics.fmean(values):.1f} ± {statistics.pstdev(values):.1f}" if values else "–"


def row(label: str, results: Sequence[Mapping[str, Any]]) -> str:
    base = [r["base"] for r in results]
    new = [r["new"] for r in results if r["new"] is not None]
    both = f"{harmonic_mean(statistics.fmean(base), statistics.fmean(new)):.1f}" if new else "–"
    steps = [r["step_seconds"] for r in results if r["step_seconds"] is not None]
    pace = f"{statistics.median(steps):.3f}" if steps else "–"
    return f"| {label} | {spread(base)} | {spread(new)} | {both} | {results[0]['learnables']:,} | {pace} |"


def print_table(jobs: Sequence[Job], found: Mapping[str, Sequence[Mapping[str, Any]]], title: str) -> None:
    print(f"\n{title}\n\n| method | base (%) | new (%) | HM | learned values | s / step |\n|---|---|---|---|---|---|")
    for job in jobs:
        print(row(job.label, found[job.label]))


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--out", default="runs/compare")
    parser.add_argument("--processes", type=int, default=os.cpu_count())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--suite", default="tinyworld/aquarium")
    parser.add_argument("--methods", nargs="+", default=METHODS)
    add_options(parser)
    given = parser.parse_args()
    jobs = jobs_of(given.methods)
    found = run_all(jobs, given.suite, given.seeds, given.out, given.processes)
    print_table(jobs, found, f"{given.suite}, {SHOTS} shots, seeds {', '.join(map(str, given.seeds))}, mini")


if __name__ == "__main__":
    main()
