"""Which part of a training set is worth keeping: test accuracy by selection rule and fraction, on a Tinyworld suite.

    python benchmarks/select_data.py --suite tinyworld/aquarium --seeds 1 2 3 --out runs/select

The learner is a linear probe on `mini`; images are judged by MaPLe at its initial state, for "forgetting" after each of
two epochs. Every cell is a run folder, so the same command goes on where it was stopped. The table gives mean ±
population standard deviation over the seeds. Tinyworld is a laboratory, not a benchmark.
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path

import torch

import cliptune
from cliptune.data.selection import SELECTIONS
from cliptune.protocols import data_efficient


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--suite", default="tinyworld/aquarium")
    parser.add_argument("--method", default="linear_probe")
    parser.add_argument("--train", type=int, default=40, help="images per class to choose from")
    parser.add_argument("--test", type=int, default=25, help="images per class to score on")
    parser.add_argument("--fractions", type=float, nargs="+", default=[0.1, 0.25, 0.5])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--selections", nargs="+", default=list(SELECTIONS))
    parser.add_argument("--out", default="runs/select")
    given = parser.parse_args()
    torch.set_num_threads(1)
    clip, data = cliptune.load_clip("mini"), cliptune.load_data(given.suite, train=given.train, val=10, test=given.test)
    print("| keep | " + " | ".join(f"{fraction:.0%}" for fraction in given.fractions) + " |", flush=True)
    print("|---|" + "---|" * len(given.fractions), flush=True)
    for selection in given.selections:
        cells = []
        for fraction in given.fractions:
            accuracies = [
                data_efficient(
                    given.method,
                    clip,
                    data,
                    fraction=fraction,
                    selection=selection,
                    seed=seed,
                    selector_epochs=2 if selection == "forgetting" else 0,
                    out=Path(given.out) / given.suite.replace("/", "_") / selection / f"{fraction:g}" / f"seed{seed}",
                    progress="silent",
                )["evaluations"]["test"]["accuracy"]
                for seed in given.seeds
            ]
            cells.append(f"{statistics.mean(accuracies):.1f} ± {statistics.pstdev(accuracies):.1f}")
        print(f"| {selection} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
