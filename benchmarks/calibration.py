"""How often prediction sets hold the right class, and how sure answers are, before and after calibration.

Every method is fitted to a few images of every class of a Tinyworld suite, as often as there are seeds, calibrated on
parts of these images, and asked about all test images. Beside the coverage stands the interval that chance alone gives:
of n held-out images and N test images of one distribution the count of held ones is beta-binomial; its mean over seeds
has the deviation of that law divided by the root of the number of seeds (seeds share their test images, which this
leaves out).

    python benchmarks/calibration.py --methods gda,linear_probe --shots 16 --seeds 10
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence

import torch
from scipy.stats import betabinom

import cliptune
from cliptune.choosing import held_out_answers
from cliptune.choosing.calibrating import CHEAP_FOLDS, spread_of
from cliptune.data.metrics import expected_calibration_error
from cliptune.training import SharedImages


def measured(
    method: str, clip, whole, shots: int, seed: int, folds: int, coverage: float, shared, options: dict[str, float]
) -> dict[str, float]:
    """Numbers of one run, in %."""
    data = whole.few_shot(shots, seed)
    told = held_out_answers(method, clip, data, seed=seed, folds=folds, options=options, shared=shared)
    recipe = cliptune.build(method, clip, data.class_names, seed=seed, template=data.template, **options)
    adapter = cliptune.fit(recipe, data, seed=seed, shared=shared, progress="silent").adapter
    logits = {
        name: cliptune.evaluate(adapter, data[name], shared=shared, keep_logits=True, keep_predictions=False).logits
        for name in ("train", "test")
    }
    known = told.calibration(spread_of(logits["train"]))
    labels = data.test.labels
    relative = logits["test"].double() / known.temperature
    inside = known.sets(relative.softmax(-1), coverage)
    n = len(known.scores)
    rank = math.ceil(round((n + 1) * coverage, 9))
    return {
        "accuracy": 100 * float((relative.argmax(-1) == labels).double().mean()),
        "held-out accuracy": known.accuracy,
        "ece before": expected_calibration_error(logits["test"], labels),
        "ece after": expected_calibration_error(relative, labels),
        "coverage": 100 * float(inside.gather(-1, labels[:, None]).double().mean()),
        "classes in a set": float(inside.sum(-1).double().mean()),
        "expected": 100 * rank / (n + 1),
        "deviation": 100 * betabinom(len(labels), rank, n + 1 - rank).std() / len(labels),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", default="zeroshot,gda,linear_probe,tip_adapter,ss_text")
    parser.add_argument("--data", default="tinyworld/symbols")
    parser.add_argument("--backbone", default="mini")
    parser.add_argument("--shots", type=int, default=16)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--folds", type=int, default=CHEAP_FOLDS)
    parser.add_argument("--coverage", type=float, default=0.9)
    parser.add_argument(
        "--set", action="append", default=[], help="an option of the methods that is a number, name=value"
    )
    asked = parser.parse_args(arguments)
    options = {name: float(value) for name, value in (given.split("=", 1) for given in asked.set)}
    clip, whole, shared = cliptune.load_clip(asked.backbone), cliptune.load_data(asked.data), SharedImages()
    print(f"{asked.data}, {asked.shots} shots, {asked.folds} parts, sets of {asked.coverage:g}, {asked.seeds} seeds")
    for method in asked.methods.split(","):
        found = [
            measured(method, clip, whole, asked.shots, seed, asked.folds, asked.coverage, shared, options)
            for seed in range(1, asked.seeds + 1)
        ]
        mean = {name: sum(one[name] for one in found) / len(found) for name in found[0]}
        margin = 1.96 * mean["deviation"] / math.sqrt(asked.seeds)
        alone = sum(abs(one["coverage"] - one["expected"]) < 1.96 * one["deviation"] for one in found)
        print(
            f"{method:14s} accuracy {mean['accuracy']:5.1f} (held out {mean['held-out accuracy']:5.1f})  ece "
            f"{mean['ece before']:4.1f} → {mean['ece after']:4.1f}  coverage {mean['coverage']:5.1f} (chance "
            f"{mean['expected'] - margin:.1f} to {mean['expected'] + margin:.1f}; {alone} of {asked.seeds} seeds alone "
            f"within theirs)  {mean['classes in a set']:.2f} classes in a set",
            flush=True,
        )


if __name__ == "__main__":
    torch.manual_seed(0)
    main()
