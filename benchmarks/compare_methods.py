"""Base-to-new accuracy of methods and stacks of add-ons on a Tinyworld suite: one command, one table.

    python benchmarks/compare_methods.py --suite tinyworld/aquarium --seeds 1 2 3 --out runs/compare

Every method takes its default options, unless `OPTIONS` says otherwise. Each cell is a run folder, so the same command
goes on where it was stopped. Cells run in worker processes of one thread each. The table gives mean ± population
standard deviation over the seeds, the harmonic mean of the averages, the learned values, and seconds per optimiser
step. Tinyworld is a laboratory, not a benchmark.
"""

from __future__ import annotations

import argparse
import os
import statistics
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import torch

import cliptune
from cliptune.data.loader import steps_per_epoch
from cliptune.data.metrics import harmonic_mean
from cliptune.protocols import base2new

SHOTS = 16
METHODS = (
    "zeroshot", "coop", "kgcoop", "cocoop", "vpt", "ivlp", "maple", "promptsrc", "bias_tuning", "clip_lora",
    "coop+rlp", "ivlp+rlp", "maple+rlp", "coop+dpc", "ivlp+dpc", "maple+dpc", "ivlp+dapt", "maple+dapt",
    "coop+rlp+dpc", "maple+dapt+dpc",
)  # fmt: skip
# CoOp as published for base-to-new. CoCoOp sees one image per step: half of its published epochs. DPC's second stage:
# the shorter of the paper's two.
OPTIONS = {"coop": {"epochs": 200}, "cocoop": {"epochs": 5}, "dpc": {"dpc_epochs": 5}}
# Learners of text alone take their image features from eight augmented views per image instead of new ones each epoch.
TEXT_ALONE = {"coop", "kgcoop", "rlp", "dpc"}
VIEWS = 8


def options_of(method: str) -> dict[str, Any]:
    return {key: value for part in method.split("+") for key, value in OPTIONS.get(part, {}).items()}


def cell(method: str, suite: str, seed: int, out: str) -> dict[str, Any]:
    """One run, or the finished one found in its folder; with seconds per step."""
    torch.set_num_threads(1)
    clip, data = cliptune.load_clip("mini"), cliptune.load_data(suite)
    folder = Path(out) / suite.replace("/", "_") / method / f"seed{seed}"
    options = options_of(method)
    views = VIEWS if method.split("+")[0] in ("coop", "kgcoop") and set(method.split("+")) <= TEXT_ALONE else None
    result = base2new(
        method, clip, data, seed, SHOTS, folder, options=options, source={"name": suite}, progress="silent", views=views
    )
    stages = cliptune.build(method, clip, data.subset("base").class_names, **options).stages
    images = result["train_images"]
    steps = sum(s.epochs * steps_per_epoch(images, s.batch_size) for s in stages if s.optimiser is not None)
    return {**result, "seed": seed, "step_seconds": result["seconds"] / steps if steps else None}


def row(method: str, results: list[dict[str, Any]]) -> str:
    base = [r["base"] for r in results]
    new = [r["new"] for r in results if r["new"] is not None]
    spread = lambda values: f"{statistics.fmean(values):.1f} ± {statistics.pstdev(values):.1f}" if values else "–"
    both = f"{harmonic_mean(statistics.fmean(base), statistics.fmean(new)):.1f}" if new else "–"
    steps = [r["step_seconds"] for r in results if r["step_seconds"] is not None]
    pace = f"{statistics.median(steps):.3f}" if steps else "–"
    return f"| {method} | {spread(base)} | {spread(new)} | {both} | {results[0]['learnables']:,} | {pace} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--suite", default="tinyworld/aquarium")
    parser.add_argument("--methods", nargs="+", default=METHODS)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--out", default="runs/compare")
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    arguments = parser.parse_args()
    found: dict[str, list[dict[str, Any]]] = {}
    with ProcessPoolExecutor(arguments.processes) as pool:
        work = {
            pool.submit(cell, method, arguments.suite, seed, arguments.out): method
            for method in arguments.methods
            for seed in arguments.seeds
        }
        for number, done in enumerate(as_completed(work), start=1):
            result = done.result()
            found.setdefault(work[done], []).append(result)
            what = f"{work[done]}, seed {result['seed']}"
            print(f"{number} of {len(work)}: {what}: {result['seconds']:.0f} s", flush=True)
    print(f"\n{arguments.suite}, {SHOTS} shots, seeds {arguments.seeds}, mini; seconds on one core\n")
    print("| method | base (%) | new (%) | HM | learned values | s / step |\n|---|---|---|---|---|---|")
    for method in arguments.methods:
        print(row(method, sorted(found[method], key=lambda r: r["seed"])))


if __name__ == "__main__":
    main()
