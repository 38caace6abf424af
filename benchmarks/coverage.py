"""How often the 95 % intervals of `cliptune table --against` hold a difference that was planted.

    python benchmarks/coverage.py [--simulations 400] [--images 2000] [--seeds 3 5] [--points 0 3] [--random 1]

Two methods answer the same images under every seed. An image has a chance of being answered rightly, between 20 and
90 %, and the second method's is higher by the planted points. With probability 0.6 an answer depends on how hard the
image is, the same for both methods and all seeds, else on new luck, so that answers agree as those of real runs do.

- "seeds": training moves the second method by a normal of 2 points, anew with each seed. The interval is Student's over
  seeds; it speaks of other seeds on these very images, so the difference to be held is the mean over seeds on them.
- "images": training moves nothing. The interval is the bootstrap's over images; it speaks of other images of the kind,
  so the difference to be held is the planted one.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from cliptune.results.statistics import paired_bootstrap, paired_t

SHARED, MOVED = 0.6, 0.02
"""Share of answers that the image alone decides; standard deviation of what training does to a method."""

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Coverage:
    """Of many intervals: the share that held the truth, the share that left out zero, the mean estimate in points."""

    covered: float
    found: float
    mean: float


def coverage(
    kind: str, points: float, *, simulations: int = 400, images: int = 2000, seeds: int = 3, seed: int = 1
) -> Coverage:
    """Args: kind: "seeds" or "images". points: planted difference in % points. seed: of all that is drawn."""
    random = np.random.default_rng([seed, round(100 * points), seeds])
    moved = MOVED if kind == "seeds" else 0.0
    held, apart, estimates = [], [], []
    for _ in range(simulations):
        chance, hard = random.uniform(0.2, 0.9, images), random.uniform(size=images)
        better = chance + points / 100
        first = np.stack([_answers(chance, hard, random) for _ in range(seeds)])
        second = np.stack([_answers(better + random.normal(0, moved), hard, random) for _ in range(seeds)])
        difference = 100.0 * (second - first)
        if kind == "seeds":
            interval, truth = paired_t(difference.mean(axis=1)).interval, _on_these(chance, better, hard)
        else:
            interval, truth = paired_bootstrap([difference.mean(axis=0)]), points
        held.append(interval.low <= truth <= interval.high)
        apart.append(interval.sign != 0)
        estimates.append(interval.estimate)
    return Coverage(float(np.mean(held)), float(np.mean(apart)), float(np.mean(estimates)))


def _answers(chance: Array, hard: Array, random: np.random.Generator) -> Array:
    """1 for right, 0 for wrong: (images,)."""
    luck = np.where(random.uniform(size=len(chance)) < SHARED, hard, random.uniform(size=len(chance)))
    return (luck < chance).astype(float)


def _on_these(chance: Array, better: Array, hard: Array) -> float:
    """The mean difference over all seeds on these images, in points."""
    decided = stats.norm.cdf((better - hard) / MOVED) - (hard < chance)
    return 100.0 * float((SHARED * decided + (1 - SHARED) * (better - chance)).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description="Coverage of the intervals of paired differences.")
    parser.add_argument("--simulations", type=int, default=400)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--seeds", type=int, nargs="+", default=[3, 5])
    parser.add_argument("--points", type=float, nargs="+", default=[0.0, 3.0])
    parser.add_argument("--random", type=int, default=1, help="of all that is drawn")
    asked = parser.parse_args()
    print(f"{'interval over':<14}{'seeds':>6}{'planted':>9}{'mean':>8}{'held':>8}{'apart from 0':>14}")
    for kind in ("seeds", "images"):
        for seeds in asked.seeds:
            for points in asked.points:
                found = coverage(
                    kind,
                    points,
                    simulations=asked.simulations,
                    images=asked.images,
                    seeds=seeds,
                    seed=asked.random,
                )
                shown = f"{kind:<14}{seeds:>6}{points:>9.1f}{found.mean:>8.2f}"
                print(f"{shown}{100 * found.covered:>7.1f}%{100 * found.found:>13.1f}%")


if __name__ == "__main__":
    main()
