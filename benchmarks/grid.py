"""A grid of few-shot runs with and without stored embeddings, in one run: the same numbers, in how much time.

    python benchmarks/grid.py [--backbone ViT-B/16] [--layers 12] [--classes 10] [--test 20] [--shots 1 16]
        [--seeds 1 2 3] [--methods zeroshot linear_probe tip_adapter coop kgcoop cocoop] [--epochs E] [--views 1]
        [--threads 1] [--at 10x8100 100x2465] [--at-shots 1 16] [--at-seeds 3] [--into FOLDER]

The CLIP has the sizes of the backbone and random weights; the pictures are noise, written as JPEG files. Every cell
runs twice in turn, without a store and with one that was empty before the first cell, and must answer alike, bit for
bit. Epochs are those of the methods' recipes, unless --epochs says how many. "pictures" counts views that passed the
image tower, with those that fill up a group; times are seconds of processor time, which other work on the machine
changes less than those on the clock. "known" is the ratio where no picture had to pass the tower at all, as in a second
run of the same grid: a bound that the store cannot pass. With --into the pictures, the store and each run's cost are
kept there: a grid that was stopped goes on, and other processes may run other --methods in the same folder at the same
time, once the test pictures are known. A cell that was stopped halfway leaves its pictures in the store, and costs
less when it is run again: remove the folder where that matters.

The second visit is a pass over all test pictures by another store object on the same folder, against a pass without a
store; hashing the files and looking at the tower's weights is in it, and in a new process hashing the weights as well.

Larger grids are computed, for each --at CLASSESxTEST with --at-shots and --at-seeds: the seconds of a picture in the
tower are those measured above; pictures are counted, and what else a run takes is measured, in runs of that many
classes whose tower makes up its embeddings and takes no time: steps (from a few of them, for the published number of
epochs), searches, evaluations and the answer to a picture that is known (CoCoOp encodes its texts for every picture).
The last two columns are of runs that draw fresh views in every epoch, as published, in place of one that is kept.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from cliptune.clip import CLIP
from cliptune.clip.tokenizer import default_tokenizer
from cliptune.clip.weights.openai import OPENAI_CONFIGS
from cliptune.data import Dataset, Split
from cliptune.data.items import Item
from cliptune.data.loader import steps_per_epoch
from cliptune.features import FeatureStore, View, embedded
from cliptune.protocols.few_shot_learning import few_shot_run
from cliptune.registry import build
from cliptune.registry.listing import takes_steps
from cliptune.registry.recipes import published_options, recipes_of
from cliptune.training import evaluate
from cliptune.training.feed import drop_last
from cliptune.training.progress import Silent

TRAIN, VAL = 16, 4
"""Pictures per class."""
SAME = ("backbone", "layers", "classes", "test", "epochs", "views", "threads")
"""Options that all cells of a folder have in common."""
FEW, TIMES = 4, 5
"""Known pictures that are asked about, once and so often, to tell what each costs from what an evaluation costs."""
STEPS = 3
"""Steps from which the others are computed."""


@dataclass
class Cost:
    """Seconds of processor time, and views that passed the tower."""

    seconds: float = 0.0
    pictures: int = 0

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.seconds + other.seconds, self.pictures + other.pictures)


@dataclass(frozen=True)
class Own:
    """What one run of a method takes beside the tower, in seconds, and the pictures it has the tower look at.

    Args:
        fixed: building, searches, an evaluation, but for its pictures. training: all steps.
        answer: to a test picture whose embedding is known.
        pictures: other than test pictures, of one kept view. new: those of them that no method before had.
        shown: pictures in all steps.
    """

    fixed: float
    training: float
    answer: float
    pictures: int
    new: int
    shown: int


class Counted(CLIP):
    """A CLIP that counts what passes its image tower, and may take pixels for its embeddings."""

    passed = 0
    made_up = False

    def encode_image(self, views: torch.Tensor, *ports: Any) -> torch.Tensor:
        self.passed += views.shape[0] * views.shape[1]
        if not self.made_up:
            return super().encode_image(views, *ports)
        width, pixels = self.image.embed, views.flatten(2)
        return pixels[..., :: pixels.shape[-1] // width][..., :width]


class Enough(Exception):
    """So many steps were taken."""


class Ticks(Silent):
    """Processor time at the end of each step; ends the run after a few."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def advance(self, description: str) -> None:
        self.times.append(time.process_time())
        if len(self.times) > STEPS:
            raise Enough


def random_clip(backbone: str, layers: int) -> Counted:
    torch.manual_seed(0)
    config = replace(OPENAI_CONFIGS[backbone], image_layers=layers)
    return Counted(config, tokenizer=default_tokenizer(), name=f"{backbone}, {layers} layers, random").freeze()


def pictures(folder: Path, classes: int, test: int, size: tuple[int, int] = (320, 240)) -> Dataset:
    draw, splits = np.random.default_rng(0), {}
    folder.mkdir(exist_ok=True)
    for split, count in (("train", TRAIN), ("val", VAL), ("test", test)):
        items = [Item(f"{split}-{c}-{i}.jpg", c, f"thing {c}") for c in range(classes) for i in range(count)]
        for item in items:
            colours = draw.integers(0, 256, (32, 24, 3), dtype=np.uint8)
            if not (folder / item.path).exists():
                part = folder / f"{item.path}.{os.getpid()}"
                Image.fromarray(colours).resize(size).save(part, "JPEG")
                part.replace(folder / item.path)
        splits[split] = Split.of_files(folder, items)
    return Dataset("noise", tuple(f"thing {c}" for c in range(classes)), root=folder, **splits)


def measured(clip: Counted, work: Callable[[], Any]) -> tuple[Any, Cost]:
    before, start = clip.passed, time.process_time()
    answer = work()
    return answer, Cost(time.process_time() - start, clip.passed - before)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", default="ViT-B/16", choices=sorted(OPENAI_CONFIGS))
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--classes", type=int, default=10)
    parser.add_argument("--test", type=int, default=20, help="test pictures per class")
    parser.add_argument("--shots", type=int, nargs="+", default=[1, 16])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    usual = ["zeroshot", "linear_probe", "tip_adapter", "coop", "kgcoop", "cocoop"]
    parser.add_argument("--methods", nargs="+", default=usual)
    parser.add_argument("--epochs", type=int, help="of each method that learns by steps; else its recipe's")
    parser.add_argument("--views", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--at", nargs="*", default=["10x8100"], help="classes x test pictures to compute the ratio for")
    parser.add_argument("--at-shots", type=int, nargs="+", default=[1, 16])
    parser.add_argument("--at-seeds", type=int, default=3)
    parser.add_argument("--into", type=Path)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    with tempfile.TemporaryDirectory() as folder:
        each = compare(asked, asked.into or Path(folder))
        for size in asked.at:
            classes, test = map(int, size.split("x"))
            computed(asked, Path(folder) / size, classes, test, each)


def compare(asked: argparse.Namespace, folder: Path) -> float:
    """The measured grid. Returns: seconds of a picture in the tower."""
    folder.mkdir(parents=True, exist_ok=True)
    same(folder / "settings.json", {name: getattr(asked, name) for name in SAME})
    clip, data = random_clip(asked.backbone, asked.layers), pictures(folder / "measured", asked.classes, asked.test)
    store = FeatureStore(folder / "store")
    print(
        f"{clip.name}; {asked.classes} classes; {len(data.test)} test pictures; {asked.threads} threads; {clip.dtype}"
    )
    plain: dict[str, Cost] = defaultdict(Cost)
    stored: dict[str, Cost] = defaultdict(Cost)
    for method in asked.methods:
        epochs = {"epochs": asked.epochs} if asked.epochs else {}
        how: dict[str, Any] = {"options": epochs, "views": asked.views} if takes_steps(method) else {}
        for shots in asked.shots:
            for seed in asked.seeds:
                one = {"shots": shots, "seed": seed, "progress": "silent", **how}
                costs = kept(folder / f"{method}-{shots}-{seed}.json", partial(both, method, clip, data, store, one))
                plain[method], stored[method] = plain[method] + costs[0], stored[method] + costs[1]
        print(row(method, plain[method], stored[method]), flush=True)
    whole = [sum(costs.values(), Cost()) for costs in (plain, stored)]
    each = visits(clip, data, store)
    beside = whole[1].seconds - whole[1].pictures * each
    known = f"{whole[0].seconds / beside:.1f} × known" if beside > 0 else "known: lost in what a picture varies by"
    print(f"{row('all', *whole)} {known}")
    return each


def same(file: Path, settings: dict[str, Any]) -> None:
    """Raises: SystemExit where the folder holds costs of other settings."""
    if not file.exists():
        file.write_text(json.dumps(settings))
    there = json.loads(file.read_text())
    if there != settings:
        raise SystemExit(f"{file.parent} holds costs of {there}, not of {settings}. Give --into another folder.")


def kept(file: Path, work: Callable[[], tuple[Cost, Cost]]) -> tuple[Cost, Cost]:
    """What was measured before, or is now."""
    if not file.exists():
        part = file.with_suffix(f".{os.getpid()}")
        part.write_text(json.dumps([(cost.seconds, cost.pictures) for cost in work()]))
        part.replace(file)
    plain, stored = (Cost(*cost) for cost in json.loads(file.read_text()))
    return plain, stored


def both(method: str, clip: Counted, data: Dataset, store: FeatureStore, one: dict[str, Any]) -> tuple[Cost, Cost]:
    """The run without a store and with one, which must answer alike."""
    (run, plain), (again, stored) = (
        measured(clip, partial(few_shot_run, method, clip, data, store=folder, **one)) for folder in (False, store)
    )
    assert run.result["evaluations"]["test"] == again.result["evaluations"]["test"], (method, one)
    return plain, stored


def row(name: str, plain: Cost, stored: Cost) -> str:
    ratio = plain.seconds / max(stored.seconds, 1e-9)
    return (
        f"| {name:12s} | {plain.seconds:8.1f} s | {plain.pictures:6,} pictures | {stored.seconds:8.1f} s | "
        f"{stored.pictures:6,} pictures | {ratio:5.1f} × |"
    )


def visits(clip: Counted, data: Dataset, store: FeatureStore) -> float:
    """The second visit of the pictures, and what they take on the disk. Returns: seconds of a first visit a picture."""
    view = View(clip.config.resolution, clip.preprocessing)
    truth, first = measured(clip, lambda: embedded(clip, data.test, view))
    for tower, name in ((clip, "second visit"), (copy.deepcopy(clip), "second visit by a new process")):
        fresh = Split.of_files(data.root, data.test.items)  # which has no hash of a file yet
        find = partial(embedded, tower, fresh, view, store=FeatureStore(store.folder))
        again, second = measured(tower, find)
        assert torch.equal(truth, again)
        assert not second.pictures
        print(
            f"{len(truth)} pictures, {name}: {first.seconds:.2f} s without, {second.seconds:.3f} s with, "
            f"{first.seconds / second.seconds:.0f} ×."
        )
    stored = sum(len(shard) for space in store.spaces() for shard in space.shards())
    print(f"Disk: {store.bytes() / stored / 1024:.2f} KiB per view, {stored:,} views.")
    return first.seconds / first.pictures


def computed(asked: argparse.Namespace, folder: Path, classes: int, test: int, each: float) -> None:
    """A table of a larger grid, from the costs of its runs beside the tower, and of a picture in it."""
    clip, data = random_clip(asked.backbone, 1), pictures(folder, classes, FEW, (40, 30))
    data, clip.made_up = replace(data, test=data.test.subset(range(FEW))), True
    print(
        f"\nComputed for {classes} classes, {test:,} test pictures, shots {asked.at_shots}, {asked.at_seeds} seeds and "
        f"{1000 * each:.0f} ms for a picture in the tower; hours:\n"
        "| | answer to a known picture | without | with | ratio | known | fresh views: without | with | ratio |"
    )
    runs = {method: list(own_of(method, clip, data, asked.at_shots)) for method in asked.methods}
    whole = np.zeros(5)
    for method, found in runs.items():
        answering = sum(own.fixed + own.training + test * own.answer for own in found)
        tower = len(found) * test
        plain = answering + each * (tower + sum(own.pictures for own in found))
        stored = answering + each * sum(own.new for own in found)
        further = each * sum(max(0, own.shown - own.pictures) for own in found)
        kept = each * sum(own.pictures - own.new for own in found if own.shown)
        hours = np.array([plain, stored, answering, plain + further, stored + further + kept]) * asked.at_seeds / 3600
        whole += hours
        print(line(method, f"{1000 * found[0].answer:.1f} ms", hours), flush=True)
    once = each * test / 3600
    print(f"| test pictures, once | | | {once:.2f} | | | | {once:.2f} | |")
    print(line("all", "", whole + once * np.array([0, 1, 0, 0, 1])))


def line(name: str, told: str, hours: np.ndarray) -> str:
    plain, stored, known, fresh, fresh_stored = hours
    return (
        f"| {name} | {told} | {plain:.2f} | {stored:.2f} | {plain / stored:.1f} × | {plain / known:.1f} × | "
        f"{fresh:.2f} | {fresh_stored:.2f} | {fresh / fresh_stored:.1f} × |"
    )


SEEN: set[bytes] = set()
"""Keys of pictures that a method before had pass the tower."""


def own_of(method: str, clip: Counted, data: Dataset, shots: list[int]) -> Iterator[Own]:
    """Of a run with each number of shots, with a store that holds the test pictures alone."""
    for count in shots:
        with tempfile.TemporaryDirectory() as folder:
            store = FeatureStore(folder)
            embedded(clip, data.test, View(clip.config.resolution, clip.preprocessing), store=store)
            there = keys_in(store)
            one = partial(few_shot_run, method, clip, data, shots=count, seed=1, store=store)
            if takes_steps(method):
                yield stepping(method, clip, data, count, store, one, there)
                continue
            cost = measured(clip, partial(one, progress="silent"))[1]
            new = newly(store, there)
            run, again = measured(clip, partial(one, progress="silent"))
            answer, _ = answering(clip, run.adapter, data, store)
            yield Own(again.seconds - len(data.test) * answer, 0.0, answer, cost.pictures, new, 0)


def stepping(
    method: str, clip: Counted, data: Dataset, shots: int, store: FeatureStore, one: Callable[..., Any], there: set
) -> Own:
    recipe, ticks, before = build(method, clip, data.class_names), Ticks(), clip.passed
    with suppress(Enough):
        one(progress=ticks, views=1, options={"epochs": STEPS + 1})
    (stage,) = recipe.stages
    n = min(shots, TRAIN) * len(data.class_names)
    epochs = published_epochs(method, shots)
    steps = epochs * steps_per_epoch(n, stage.batch_size, drop_last=drop_last(stage))
    each = (ticks.times[-1] - ticks.times[0]) / STEPS
    answer, fixed = answering(clip, recipe.adapter, data, store)
    shown = steps * min(n, stage.batch_size)
    return Own(fixed, steps * each, answer, clip.passed - before, newly(store, there), shown)


def answering(clip: Counted, adapter: Any, data: Dataset, store: FeatureStore) -> tuple[float, float]:
    """Seconds that a known picture costs in an evaluation, and that an evaluation costs beside its pictures."""
    many = data.test.subset(list(range(len(data.test))) * TIMES)
    evaluate(adapter, data.test, store=store)
    once, often = (measured(clip, partial(evaluate, adapter, part, store=store))[1] for part in (data.test, many))
    answer = max(0.0, (often.seconds - once.seconds) / (len(many) - len(data.test)))
    return answer, max(0.0, once.seconds - len(data.test) * answer)


def published_epochs(method: str, shots: int) -> int:
    protocol = next(iter(recipes_of(method)))
    return int(published_options(method, protocol, shots)["epochs"])


def keys_in(store: FeatureStore) -> set[bytes]:
    return {key.tobytes() for space in store.spaces() for shard in space.shards() for key in shard.keys}


def newly(store: FeatureStore, there: set[bytes]) -> int:
    found = keys_in(store) - there - SEEN
    SEEN.update(found)
    return len(found)


if __name__ == "__main__":
    main()
