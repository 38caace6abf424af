"""One experiment per claim of the prompt papers on Tinyworld, each a table of base-to-new accuracies.

    python benchmarks/prompt_experiments.py EXPERIMENT [--seeds 1 2 3] [--out runs/compare]

rank     RLP (arXiv:2312.10813): CoOp whose 4 tokens change by a product of rank 1 to 4, or freely.
dropout  RLP: dropout on a product of rank 1.
masks    DAPT (arXiv:2508.00395): masks by Grad-CAM, exact ones, and exact ones with a share of the object erased;
         how well Grad-CAM finds the object.
words    DAPT: number of background words, with exact masks.
budget   Bias tuning (arXiv:2312.11570): as many learned vectors per block of both towers as IVLP has tokens.
omega    DPC (arXiv:2503.13443): base and new accuracy against ω, of finished runs that are trained here if need be.
tokens   Bias tuning (arXiv:2312.11570, figs. 2–3): what each kind of token contributes to the score of an image and
         its class, before and after training.
distil   PromptKD (arXiv:2403.02781): a student of MaPLe that sees the pictures of base classes alone, or those of new
         classes as well, without labels.

Runs are shared with `compare_methods.py` under the same --out, and the same command goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import statistics
import zlib
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from compare_methods import OPTIONS, SHOTS, TEACHER, Job, add_options, jobs_of, options_of, print_table, run_all, spread
from PIL import Image

import cliptune
from cliptune.analysis import token_contributions
from cliptune.batch import Batch
from cliptune.data import Item, Split
from cliptune.data.masks import ExactMasks
from cliptune.images import as_batch
from cliptune.masking import ByGradCAM, make_masks
from cliptune.prompts.dual import DualPrompt
from cliptune.protocols import few_shot
from cliptune.protocols.training import class_set
from cliptune.training import evaluate

TRADE_OFF, OBJECTS = "tinyworld/aquarium", "tinyworld/garden"
# On `garden`, where 50 epochs reach every ceiling, 20 leave room for differences.
SHORT = 20
CELL = 8  # pixels: an object is erased by cells of mini's patches
ERASED = (0.25, 0.5, 0.75)
OMEGA_BASE = (0.0, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0)
OMEGA_NEW = (0.0, 0.05, 0.1, 0.2, 0.5, 1.0)
DUAL = ("coop+dpc", "ivlp+dpc", "maple+dpc")
KINDS = (
    ("image", "cls"), ("image", "patch"), ("image", "prompt"),
    ("text", "sos"), ("text", "prompt"), ("text", "class"), ("text", "eot"),
)  # fmt: skip


def rank_jobs() -> list[Job]:
    low = [Job(f"coop+rlp, r = {r}", "coop+rlp", {**options_of("coop+rlp"), "rlp_rank": r}) for r in (2, 3, 4)]
    return [*jobs_of(["coop", "coop+rlp"]), *low]


def dropout_jobs() -> list[Job]:
    given = options_of("coop+rlp")
    some = [Job(f"coop+rlp, p = {p}", "coop+rlp", {**given, "rlp_dropout": p}) for p in (0.1, 0.3, 0.5)]
    return [*jobs_of(["coop+rlp"]), *some]


def budget_jobs() -> list[Job]:
    jobs = jobs_of(["ivlp", "bias_tuning"])  # two tokens, two vectors
    jobs.append(Job("ivlp, n = 1", "ivlp", {**OPTIONS["ivlp"], "n_text": 1, "n_image": 1}))
    jobs.append(Job("bias_tuning, budget 1", "bias_tuning", {**OPTIONS["bias_tuning"], "budget": 1}))
    return jobs


def mask_jobs(out: str, seeds: Sequence[int]) -> list[Job]:
    """The same training with every kind of mask; damaged ones are written first."""
    folders = {share: Path(out) / "masks" / f"erased_{share:g}" for share in ERASED}
    data = cliptune.load_data(OBJECTS)
    for share, folder in folders.items():
        for seed in seeds:
            train = data.few_shot(SHOTS, seed).subset("base").train
            broken = [made for made in make_masks(train, folder, erasing(train, share)) if made.error]
            assert not broken, broken[0].error
    sources = {"Grad-CAM": "gradcam", "exact": "exact"}
    sources |= {f"{share:.0%} of the object erased": str(folder.resolve()) for share, folder in folders.items()}
    short = {"epochs": SHORT}
    jobs = [Job("maple, 20 epochs", "maple", short)]
    return jobs + [
        Job(f"maple+dapt, {name}", "maple+dapt", {**short, "dapt_source": source}) for name, source in sources.items()
    ]


def grad_cam_quality(seeds: Sequence[int]) -> str:
    """How well the CLIP without training finds the objects of the training images, as a sentence."""
    clip, shares = cliptune.load_clip("mini"), []
    for seed in seeds:
        data = cliptune.load_data(OBJECTS).few_shot(SHOTS, seed).subset("base")
        make = ByGradCAM(cliptune.build("zeroshot", clip, data.class_names).adapter)
        for i, item in enumerate(data.train.items):
            picture = data.train.image(i)
            found, exact = make(picture, item), np.asarray(ExactMasks().mask(data.train, i, picture.size)) > 0
            shares.append((found & exact).sum() / (found | exact).sum())
    return f"Intersection over union of Grad-CAM and exact masks, before training: {statistics.fmean(shares):.2f}"


def word_jobs() -> list[Job]:
    short = {"epochs": SHORT, "dapt_source": "exact"}
    counts: dict[str, dict[str, Any]] = {str(n): {"dapt_words": n} for n in (1, 5)}
    counts |= {"25 and food": {"dapt_food": True}}
    jobs = [Job("maple, 20 epochs", "maple", {"epochs": SHORT}), Job("maple+dapt, exact", "maple+dapt", short)]
    return jobs + [Job(f"maple+dapt, words {name}", "maple+dapt", {**short, **o}) for name, o in counts.items()]


def erasing(split: Split, share: float) -> Any:
    """A maker of exact masks of which each cell loses its object with probability `share`, never all of them."""
    position = {name: i for i, name in enumerate(split.ids)}

    def make(picture: Image.Image, item: Item) -> np.ndarray:
        mask = np.asarray(ExactMasks().mask(split, position[item.path], picture.size)) > 0
        rows, columns = (size // CELL for size in mask.shape)
        shown = mask.reshape(rows, CELL, columns, CELL).any(axis=(1, 3))
        order = np.random.default_rng(zlib.crc32(item.path.encode())).random(shown.shape)
        gone = order < share
        gone[np.unravel_index(np.where(shown, order, -1).argmax(), shown.shape)] = False
        return mask & ~np.kron(gone, np.ones((CELL, CELL), bool))

    return make


def omega_curve(method: str, seed: int, out: str) -> dict[str, list[float]]:
    """ "base" and "new" accuracies of a finished run for each ω, in %."""
    folder = Path(out) / TRADE_OFF.replace("/", "_") / method / f"seed{seed}"
    data, adapter = cliptune.load_data(TRADE_OFF).few_shot(SHOTS, seed), cliptune.load(folder)
    assert isinstance(adapter.prompt, DualPrompt)
    trained = adapter.trained_classes
    curves: dict[str, list[float]] = {}
    for half, values in (("base", OMEGA_BASE), ("new", OMEGA_NEW)):
        part = data.subset(half)
        adapter.set_classes(class_set(part, trained).with_template(trained.template), seen=half == "base")
        curves[half] = []
        for value in values:
            adapter.prompt.weight = value
            curves[half].append(evaluate(adapter, part.test).accuracy)
    return curves


def print_omega(seeds: Sequence[int], out: str, processes: int) -> None:
    run_all(jobs_of(DUAL), TRADE_OFF, seeds, out, processes)
    curves = {method: [omega_curve(method, seed, out) for seed in seeds] for method in DUAL}
    for half, values in (("base", OMEGA_BASE), ("new", OMEGA_NEW)):
        print(f"\n| ω, {half} accuracy (%) | {' | '.join(f'{value:g}' for value in values)} |")
        print("|---" * (len(values) + 1) + "|")
        for method, found in curves.items():
            columns = zip(*(curve[half] for curve in found), strict=True)
            print(f"| {method} | {' | '.join(spread(column) for column in columns)} |")


def token_shares(method: str, seed: int, out: str) -> list[float]:
    """Mean relative contributions over the test images of base classes, in %, in the order of `KINDS`."""
    folder = Path(out) / TRADE_OFF.replace("/", "_") / method / f"seed{seed}"
    data, adapter = cliptune.load_data(TRADE_OFF).subset("base"), cliptune.load(folder)
    images = as_batch([data.test.image(i) for i in range(len(data.test))], adapter.resolution)
    batch = Batch.of(images, torch.tensor([item.label for item in data.test.items]))
    found = {tower: token_contributions(adapter, batch, tower) for tower in ("image", "text")}
    return [100 * float(found[tower].share(group).mean()) for tower, group in KINDS]


def print_tokens(seeds: Sequence[int], out: str, processes: int) -> None:
    methods = ("zeroshot", "coop", "vpt", "ivlp", "maple", "bias_tuning")
    run_all(jobs_of(methods), TRADE_OFF, seeds, out, processes)
    print("\n| share (%) | " + " | ".join(f"{tower}: {group}" for tower, group in KINDS) + " |")
    print("|---" * (len(KINDS) + 1) + "|")
    for method in methods:
        columns = zip(*(token_shares(method, seed, out) for seed in seeds), strict=True)
        print(f"| {method} | {' | '.join(spread(column) for column in columns)} |")


def distil_all(seed: int, out: str) -> dict[str, float]:
    """ "base" and "new" accuracies in % of a student that saw pictures of all classes; its labels are not looked at."""
    torch.set_num_threads(1)
    here = Path(out) / TRADE_OFF.replace("/", "_")
    folder, options = here / "promptkd, all pictures" / f"seed{seed}", dict(OPTIONS["promptkd"])
    options |= {"teacher": here / TEACHER / f"seed{seed}", "transductive": True}
    data = cliptune.load_data(TRADE_OFF)
    further: dict[str, Any] = {"out": folder, "options": options, "progress": "silent"}
    few_shot("promptkd", cliptune.load_clip("mini"), data, shots=SHOTS, seed=seed, **further)
    adapter = cliptune.load(folder)
    accuracies = {}
    for half in ("base", "new"):
        part = data.subset(half)
        accuracies[half] = evaluate(adapter.set_classes(class_set(part)), part.test).accuracy
    return accuracies


def print_distillation(seeds: Sequence[int], out: str, processes: int) -> None:
    jobs = jobs_of([TEACHER, "promptkd"])
    found = run_all(jobs[:1], TRADE_OFF, seeds, out, processes) | run_all(jobs[1:], TRADE_OFF, seeds, out, processes)
    with ProcessPoolExecutor(processes) as pool:
        students = list(pool.map(distil_all, seeds, [out] * len(seeds)))
    rows = {f"{TEACHER}, the teacher": found[TEACHER], "promptkd, base pictures": found["promptkd"]}
    print("\n| method | base (%) | new (%) |\n|---|---|---|")
    for label, results in {**rows, "promptkd, base and new pictures": students}.items():
        print(f"| {label} | {' | '.join(spread([r[half] for r in results]) for half in ('base', 'new'))} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "experiment", choices=("rank", "dropout", "masks", "words", "budget", "omega", "tokens", "distil")
    )
    add_options(parser)
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.experiment == "omega":
        print_omega(given.seeds, given.out, given.processes)
        return
    if given.experiment == "tokens":
        print_tokens(given.seeds, given.out, given.processes)
        return
    if given.experiment == "distil":
        print_distillation(given.seeds, given.out, given.processes)
        return
    suite = OBJECTS if given.experiment in ("masks", "words") else TRADE_OFF
    jobs = {
        "rank": rank_jobs,
        "dropout": dropout_jobs,
        "masks": lambda: mask_jobs(given.out, given.seeds),
        "words": word_jobs,
        "budget": budget_jobs,
    }[given.experiment]()
    if given.experiment == "masks":
        print(grad_cam_quality(given.seeds), flush=True)
    found = run_all(jobs, suite, given.seeds, given.out, given.processes)
    print_table(jobs, found, f"{suite}, {SHOTS} shots, seeds {', '.join(map(str, given.seeds))}, mini")


if __name__ == "__main__":
    main()
