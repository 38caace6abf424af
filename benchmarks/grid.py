"""A grid of few-shot runs with and without stored embeddings, in one run: the same numbers, in how much time.

    python benchmarks/grid.py [--backbone ViT-B/16] [--layers 12] [--classes 10] [--test 20] [--shots 1 16]
        [--seeds 1 2 3] [--methods zeroshot linear_probe tip_adapter coop kgcoop cocoop] [--epochs 1] [--views 1]
        [--threads 1] [--at 8100] [--at-seeds 3] [--at-layers 12]

The CLIP has the sizes of the backbone and random weights; the pictures are noise, written as JPEG files. Every cell
runs twice in turn, without a store and with one that was empty before the first cell, and must answer alike, bit for
bit. "pictures" counts views that passed the image tower; times are seconds of processor time of one or more threads,
which other work on the machine changes less than those on the clock. Methods that learn in texts draw --views augmented
views per image and are trained for --epochs: their own training costs the same in both builds, so that longer training
lowers the ratio, and more test images raise it. The ratio at --at test images, --at-seeds seeds and --at-layers layers
of the image tower is computed from what was measured in this run: what a picture costs the tower, and what it costs
each method beside it (CoCoOp encodes its texts for every picture, stored or not). The pictures that other seeds draw
count as new ones, which most are not.

The second visit is a pass over all pictures by another store object on the same folder, as in a new process, against a
pass without a store; hashing the files and looking at the tower's weights is in it.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from cliptune.adapter import Adapter
from cliptune.clip import CLIP
from cliptune.clip.tokenizer import default_tokenizer
from cliptune.clip.weights.openai import OPENAI_CONFIGS
from cliptune.data import Dataset, Split
from cliptune.data.items import Item
from cliptune.features import FeatureStore, View, embedded
from cliptune.protocols.few_shot_learning import few_shot_run
from cliptune.registry.listing import takes_steps
from cliptune.training import evaluate

TRAIN, VAL = 16, 4
"""Pictures per class."""
TIMES = 5
"""How often a known picture is asked about, to tell what it costs from what a pass costs."""


@dataclass
class Cost:
    """Seconds of processor time, and views that passed the tower."""

    seconds: float = 0.0
    pictures: int = 0

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.seconds + other.seconds, self.pictures + other.pictures)


class Counted(CLIP):
    """A CLIP that counts what passes its image tower."""

    passed = 0

    def encode_image(self, views: torch.Tensor, *ports: Any) -> torch.Tensor:
        self.passed += views.shape[0] * views.shape[1]
        return super().encode_image(views, *ports)


def random_clip(backbone: str, layers: int) -> Counted:
    torch.manual_seed(0)
    config = replace(OPENAI_CONFIGS[backbone], image_layers=layers)
    return Counted(config, tokenizer=default_tokenizer(), name=f"{backbone}, {layers} layers, random").freeze()


def pictures(folder: Path, classes: int, test: int) -> Dataset:
    draw, splits = np.random.default_rng(0), {}
    for split, count in (("train", TRAIN), ("val", VAL), ("test", test)):
        items = [Item(f"{split}-{c}-{i}.jpg", c, f"thing {c}") for c in range(classes) for i in range(count)]
        for item in items:
            colours = draw.integers(0, 256, (32, 24, 3), dtype=np.uint8)
            Image.fromarray(colours).resize((320, 240)).save(folder / item.path)
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
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--views", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--at", type=int, default=8100, help="test pictures for which the ratio is computed")
    parser.add_argument("--at-layers", type=int, help="of the image tower, for which it is computed; else --layers")
    parser.add_argument("--at-seeds", type=int, default=3, help="seeds for which it is computed")
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    with tempfile.TemporaryDirectory() as folder:
        compare(asked, Path(folder))


def compare(asked: argparse.Namespace, folder: Path) -> None:
    clip, data = random_clip(asked.backbone, asked.layers), pictures(folder, asked.classes, asked.test)
    store = FeatureStore(folder / "store")
    print(
        f"{clip.name}; {asked.classes} classes; {len(data.test)} test pictures; {asked.threads} threads; {clip.dtype}"
    )
    plain: dict[str, Cost] = defaultdict(Cost)
    stored: dict[str, Cost] = defaultdict(Cost)
    beside: dict[str, float] = {}
    for method in asked.methods:
        learns = takes_steps(method)
        how: dict[str, Any] = {"options": {"epochs": asked.epochs}, "views": asked.views} if learns else {}
        for shots in asked.shots:
            for seed in asked.seeds:
                runs = []
                for costs, kept in ((plain, False), (stored, store)):
                    one = {"shots": shots, "seed": seed, "store": kept, "progress": "silent", **how}
                    run, cost = measured(clip, partial(few_shot_run, method, clip, data, **one))
                    costs[method] += cost
                    runs.append(run)
                answers = [run.result["evaluations"]["test"] for run in runs]
                assert answers[0] == answers[1], (method, shots, seed)
        beside[method] = known_picture(clip, runs[1].adapter, data.test, store)
        print(row(method, plain[method], stored[method]), flush=True)
    whole = [sum(costs.values(), Cost()) for costs in (plain, stored)]
    print(row("all", *whole))
    computed(asked, whole, visits(clip, data, store), beside, data)


def computed(
    asked: argparse.Namespace, whole: list[Cost], each: float, beside: dict[str, float], data: Dataset
) -> None:
    """The ratio of other sizes, from the costs of this run: of both builds, of a picture, of answers beside it."""
    at = each if asked.at_layers in (None, asked.layers) else seconds_per_picture(asked, data)
    cells, more = len(asked.shots) * asked.at_seeds, asked.at - len(data.test)
    answering = cells * more * sum(beside.values())
    plain, stored = (
        asked.at_seeds / len(asked.seeds) * (cost.seconds + cost.pictures * (at - each)) + answering for cost in whole
    )
    plain, stored = plain + len(asked.methods) * cells * more * at, stored + more * at
    told = ", ".join(f"{1000 * seconds:.1f} ms ({method})" for method, seconds in beside.items())
    print(f"Beside the tower's {1000 * each:.0f} ms, a test picture takes {told}.")
    print(
        f"Computed for {asked.at:,} test pictures, {asked.at_seeds} seeds and {1000 * at:.0f} ms for a picture: "
        f"{plain:,.0f} s without, {stored:,.0f} s with, {plain / stored:.1f} ×."
    )


def seconds_per_picture(asked: argparse.Namespace, data: Dataset) -> float:
    """Of the tower with --at-layers layers."""
    clip = random_clip(asked.backbone, asked.at_layers)
    view = View(clip.config.resolution, clip.preprocessing)
    some = data.test.subset(range(min(16, len(data.test))))
    cost = measured(clip, lambda: embedded(clip, some, view))[1]
    return cost.seconds / cost.pictures


def known_picture(clip: Counted, adapter: Adapter, split: Split, store: FeatureStore) -> float:
    """Seconds that one more picture costs where its embedding is stored."""
    many = split.subset(list(range(len(split))) * TIMES)
    once, often = (measured(clip, partial(evaluate, adapter, part, store=store))[1].seconds for part in (split, many))
    return max(0.0, (often - once) / (len(many) - len(split)))


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
    fresh = Split.of_files(data.root, data.test.items)  # which has no hash of a file yet
    again, second = measured(clip, lambda: embedded(clip, fresh, view, store=FeatureStore(store.folder)))
    assert torch.equal(truth, again)
    stored = sum(len(shard) for space in store.spaces() for shard in space.shards())
    print(
        f"Second visit: {first.seconds:.2f} s without, {second.seconds:.3f} s with ({second.pictures} pictures passed "
        f"the tower), {first.seconds / second.seconds:.0f} ×."
    )
    print(f"Disk: {store.bytes() / stored / 1024:.2f} KiB per view, {stored:,} views.")
    return first.seconds / len(data.test)


if __name__ == "__main__":
    main()
