"""A grid of few-shot runs with and without stored embeddings, in one run: the same numbers, in how much time.

    python benchmarks/grid.py [--backbone ViT-B/16] [--layers 12] [--classes 10] [--test 20] [--shots 1 16]
        [--seeds 1 2 3] [--methods zeroshot linear_probe tip_adapter coop kgcoop cocoop] [--epochs 1] [--views 1]
        [--threads 1] [--at 8100]

The CLIP has the sizes of the backbone and random weights; the pictures are noise, written as JPEG files. Every cell
runs twice in turn, without a store and with one that was empty before the first cell, and must answer alike, bit for
bit. "pictures" counts views that passed the image tower; times are seconds of processor time of one or more threads,
which other work on the machine changes less than those on the clock. Methods that learn in texts draw --views augmented
views per image and are trained for --epochs: their own training costs the same in both builds, so that longer training
lowers the ratio, and more test images raise it. The ratio at --at test images is computed, from the seconds per picture
of this run.

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
from cliptune.features import FeatureStore, View, embedded
from cliptune.protocols import few_shot
from cliptune.registry.listing import takes_steps

TRAIN, VAL = 16, 4
"""Pictures per class."""


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
    for method in asked.methods:
        learns = takes_steps(method)
        how: dict[str, Any] = {"options": {"epochs": asked.epochs}, "views": asked.views} if learns else {}
        for shots in asked.shots:
            for seed in asked.seeds:
                answers = []
                for costs, kept in ((plain, False), (stored, store)):
                    one = {"shots": shots, "seed": seed, "store": kept, "progress": "silent", **how}
                    result, cost = measured(clip, lambda one=one, method=method: few_shot(method, clip, data, **one))
                    costs[method] += cost
                    answers.append(result["evaluations"]["test"])
                assert answers[0] == answers[1], (method, shots, seed)
        print(row(method, plain[method], stored[method]), flush=True)
    whole = [sum(costs.values(), Cost()) for costs in (plain, stored)]
    print(row("all", *whole))
    runs = len(asked.methods) * len(asked.shots) * len(asked.seeds)
    visits(clip, data, store, whole, runs, asked.at)


def row(name: str, plain: Cost, stored: Cost) -> str:
    ratio = plain.seconds / max(stored.seconds, 1e-9)
    return (
        f"| {name:12s} | {plain.seconds:8.1f} s | {plain.pictures:6,} pictures | {stored.seconds:8.1f} s | "
        f"{stored.pictures:6,} pictures | {ratio:5.1f} × |"
    )


def visits(clip: Counted, data: Dataset, store: FeatureStore, whole: list[Cost], runs: int, at: int) -> None:
    """The second visit of the pictures, what they take on the disk, and the ratio with more of them."""
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
    each, more = first.seconds / len(data.test), at - len(data.test)
    known = second.seconds / len(data.test)  # hashing and reading, an upper bound: the weights are hashed once
    there = (whole[0].seconds + runs * more * each) / (whole[1].seconds + more * each + runs * more * known)
    print(f"Computed for {at:,} test pictures, at {1000 * each:.0f} ms a picture: {there:.1f} ×.")


if __name__ == "__main__":
    main()
