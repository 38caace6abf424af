"""Whether frozen weights in bfloat16 are harmless and faster: gradients, accuracies and seconds beside float32's.

    python benchmarks/precision.py gradients [METHOD …] [--seeds 1 2 3 4 5]
    python benchmarks/precision.py accuracy [METHOD …] [--seeds 1 2 3 4 5] [--steps 30] [--into FILE]
    python benchmarks/precision.py speed [maple promptsrc] [--rounds 3]

Gradients: of each method's loss on one batch of training images, at the start and after some steps in float32, by the
very same learnables in both precisions; shown are the least cosine and the largest difference of norms over the seeds,
all learnables of a run taken as one vector. Accuracy: short trainings of the toy CLIP "mini" on a Tinyworld suite, once
in each precision, the same in all else, judged in the precision that they were trained in; the difference is paired by
seed, with its 95 % interval of Student's t, its p-value, and that corrected by Holm for all methods of the table. With
--into, each seed is a line of a file as soon as it is done, and what the file has is read from it. Speed: a training
step at ViT-B/16 sizes, and one of mini's, in turn; processor time of one thread. Methods that have nothing to learn by
gradient are judged by their accuracy alone. Add-ons stand on CoOp.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import warnings
from math import ceil
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

import cliptune
from cliptune.adapter import Adapter
from cliptune.batch import Batch
from cliptune.clip import CLIP
from cliptune.data import Dataset
from cliptune.data.loader import gather
from cliptune.data.transforms import test_transform
from cliptune.protocols.training import class_set
from cliptune.recipe import Objective, Recipe
from cliptune.registry.building import add_ons, names
from cliptune.results.statistics import PairedT, holm, paired_t
from cliptune.training.gradients import LossOf
from cliptune.training.precision import towers_in

SUITE, SHOTS, IMAGES = "tinyworld/aquarium", 4, 8
NARROW = "bf16"
# A student needs a finished teacher; a teacher's precision is another run's.
LEFT_OUT = {"promptkd"}
HOST = "coop"  # of the add-ons


def methods_asked(asked: list[str]) -> list[str]:
    return asked or [name for name in names() if name not in LEFT_OUT] + [f"{HOST}+{name}" for name in add_ons()]


def recipe_of(method: str, clip: CLIP, data: Dataset, seed: int) -> Recipe:
    return cliptune.build(method, clip, class_set(data), seed=seed)


def enough(recipe: Recipe, data: Dataset, steps: int) -> dict[str, int]:
    """The budget of `fit`: so many steps, or as many as give each stage an epoch; none where nothing learns."""
    stages = [stage for stage in recipe.stages if stage.optimiser is not None]
    epochs = sum(stage.epochs for stage in stages)  # in proportion to which stages share steps
    least = [ceil(ceil(len(data.train) / stage.batch_size) * epochs / stage.epochs) for stage in stages]
    return {"steps": max(steps, *least)} if least else {}


def gradient(adapter: Adapter, objective: Objective, batch: Batch, precision: str) -> Tensor:
    """All learnables' gradients as one vector."""
    learned = list(adapter.trainable().values())
    torch.manual_seed(0)
    with towers_in(adapter.clip, precision):
        adapter.forget()
        loss = LossOf(adapter, objective)(batch, None, 0.0)
        # A head that has to see images first has nothing to learn from before.
        found = torch.autograd.grad(loss, learned, allow_unused=True) if loss.requires_grad else [None] * len(learned)
    adapter.forget()
    return torch.cat(
        [torch.zeros_like(p).flatten() if g is None else g.flatten() for p, g in zip(learned, found, strict=True)]
    )


def compared(method: str, clip: CLIP, data: Dataset, seed: int, steps: int) -> list[tuple[float, float]]:
    """(cosine, norm over float32's − 1) before training and after some steps; empty where nothing learns."""
    recipe, found = recipe_of(method, clip, data, seed), []
    stages = [stage for stage in recipe.stages if stage.optimiser is not None]
    if not stages or stages[-1].sampler is not None:
        return []
    adapter, objective = recipe.adapter, stages[-1].objective
    assert objective is not None
    some = torch.randperm(len(data.train), generator=torch.Generator().manual_seed(seed))[:IMAGES].tolist()
    batch = gather(data.train, some, test_transform(adapter.resolution, preprocessing=clip.preprocessing))
    for trained in (False, True):
        if trained:
            cliptune.fit(recipe, data, seed=seed, progress="silent", **enough(recipe, data, steps))
        adapter.train()
        full, narrow = (gradient(adapter, objective, batch, precision) for precision in ("fp32", NARROW))
        if float(full.norm()) > 0:
            found.append((float(F.cosine_similarity(full, narrow, dim=0)), float(narrow.norm() / full.norm()) - 1))
    return found


def gradients(methods: list[str], seeds: list[int], steps: int) -> None:
    clip = cliptune.load_clip("mini")
    print("| method | least cosine | largest difference of norms, % | within 2 % and above 0.999 |\n|---|---|---|---|")
    for method in methods:
        found = []
        for seed in seeds:
            found += compared(method, clip, cliptune.load_data(SUITE, shots=SHOTS, seed=seed), seed, steps)
        if found:
            cosine, norm = min(c for c, _ in found), max(abs(n) for _, n in found)
            holds = "yes" if cosine > 0.999 and norm < 0.02 else "no"
            print(f"| {method} | {cosine:.5f} | {100 * norm:.2f} | {holds} |", flush=True)


def accuracies(methods: list[str], seeds: list[int], steps: int, into: Path | None) -> None:
    clip = cliptune.load_clip("mini")
    done = {(row["method"], row["seed"]): row for row in kept(into) if row["steps"] == steps}
    for method in methods:
        for seed in seeds:
            if (method, seed) not in done:
                row = {"method": method, "seed": seed, "steps": steps, **in_both(method, clip, seed, steps)}
                done[method, seed] = row
                if into:
                    with into.open("a") as file:
                        file.write(json.dumps(row) + "\n")
    tell({method: [done[method, seed] for seed in sorted(s for m, s in done if m == method)] for method in methods})


def kept(into: Path | None) -> list[dict[str, Any]]:
    return [json.loads(line) for line in into.read_text().splitlines()] if into and into.exists() else []


def in_both(method: str, clip: CLIP, seed: int, steps: int) -> dict[str, float]:
    """Accuracy in % on the test images, trained and judged in either precision."""
    data, found = cliptune.load_data(SUITE, shots=SHOTS, seed=seed), {}
    for precision in ("fp32", NARROW):
        recipe = recipe_of(method, clip, data, seed)
        budget = enough(recipe, data, steps)
        cliptune.fit(recipe, data, seed=seed, precision=precision, progress="silent", store=False, **budget)
        recipe.adapter.forget()
        scores = cliptune.evaluate(recipe.adapter, data.test, precision=precision, keep_predictions=False)
        found[precision] = scores.accuracy
        recipe.adapter.forget()
    return found


def tell(rows: dict[str, list[dict[str, Any]]]) -> None:
    """The table, methods in the order of their names."""
    tests: dict[str, PairedT | None] = {}
    for method, found in sorted(rows.items()):
        differences = [row[NARROW] - row["fp32"] for row in found]
        tests[method] = paired_t(differences) if max(differences) > min(differences) else None
    adjusted = holm([test and test.p for test in tests.values()])
    print("| method | seeds | float32, % | bfloat16, % | difference | 95 % interval | p | p (Holm) |")
    print("|---|---|---|---|---|---|---|---|")
    for (method, test), corrected in zip(tests.items(), adjusted, strict=True):
        full, narrow = (sum(row[name] for row in rows[method]) / len(rows[method]) for name in ("fp32", NARROW))
        told = "all the same | – | –"
        if test:
            told = f"{test.interval.low:+.2f} … {test.interval.high:+.2f} | {test.p:.3f} | {corrected:.3f}"
        print(f"| {method} | {len(rows[method])} | {full:.2f} | {narrow:.2f} | {narrow - full:+.2f} | {told} |")


def speed(methods: list[str], rounds: int) -> None:
    sys.path.insert(1, str(Path(__file__).resolve().parent.parent))
    from benchmarks.step_floor import Steps

    print("| method | weights | float32 s | bfloat16 s | ratio |\n|---|---|---|---|---|")
    for method in methods:
        for weights in ("ViT-B/16", "mini"):
            steps = Steps(50, 4, 12)
            if weights == "mini":
                steps.clip = cliptune.load_clip("mini")
            took: dict[str, list[float]] = {"fp32": [], NARROW: []}
            for turn in range(rounds + 1):
                for precision, values in took.items():
                    with towers_in(steps.clip, precision):
                        begun = time.process_time()
                        for _ in range(20 if weights == "mini" else 1):
                            steps.seconds(method)
                        if turn:  # the first warms up, and encodes what is kept
                            values.append((time.process_time() - begun) / (20 if weights == "mini" else 1))
            full, narrow = (min(values) for values in took.values())
            print(f"| {method} | {weights} | {full:.3f} | {narrow:.3f} | {full / narrow:.2f} |", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description="Frozen weights in bfloat16 beside float32.")
    parser.add_argument("what", choices=["gradients", "accuracy", "speed"])
    parser.add_argument("methods", nargs="*")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 4, 5])
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--into", type=Path, help="of accuracy: a file of lines of JSON, a line for each seed")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    if asked.what == "speed":
        speed(asked.methods or ["maple", "promptsrc"], asked.rounds)
    elif asked.what == "gradients":
        gradients(methods_asked(asked.methods), asked.seeds, asked.steps)
    else:
        accuracies(methods_asked(asked.methods), asked.seeds, asked.steps, asked.into)
    return 0


if __name__ == "__main__":
    sys.exit(main())
