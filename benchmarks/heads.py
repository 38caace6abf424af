"""How long every head takes to be fitted, and how much memory, at the size of ImageNet with 16 shots.

Each method is fitted in a process of its own to random features around a centre for each class (16,000 images, 512
numbers, 1,000 classes, if not told otherwise), without a tower: the embeddings are given. Heads that are shown all
images once are fitted whole, or with `--epochs` for some of their own epochs. What is trained by a loop around the head
takes some steps (`--steps`). The fastest of either makes the whole of the published recipe, as is told: other programs
on the machine change it less than the mean.

Told are seconds of the processor on all cores together, which other programs on the machine change little; seconds of
the clock; the peak of the process's memory less what it held before; and for what is trained the floor: how long the
products with features take that its recipe cannot do without, as fast as this process can multiply 256 images with
1,000 classes.

    OMP_NUM_THREADS=2 python benchmarks/heads.py --methods clap,taskres
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

METHODS = (
    *("gda", "ss_text", "tip_adapter", "ape", "proker", "linear_probe"),
    *("zs_probe", "clap", "lp_plus_plus", "taskres", "ape_t", "tip_adapter_f"),
)


class Sizes(NamedTuple):
    images: int
    width: int
    classes: int


class Spent(NamedTuple):
    """Seconds of the processor and of the clock."""

    busy: float
    clock: float

    @classmethod
    def so_far(cls) -> Spent:
        return cls(time.process_time(), time.perf_counter())

    def plus(self, other: Spent, times: float = 1.0) -> Spent:
        return Spent(self.busy + times * other.busy, self.clock + times * other.clock)


def timed(work: Callable[[], Any]) -> Spent:
    begun = Spent.so_far()
    work()
    return Spent.so_far().plus(begun, -1)


def multiplications(method: str, config: Mapping[str, Any], sizes: Sizes) -> int:
    """Of all steps of a recipe that is trained: logits, and the gradient of what learns; 0 for other methods."""
    images, width, classes = sizes
    if method == "lp_plus_plus":
        return 2 * config["epochs"] * images * width * classes
    if method not in ("zs_probe", "clap", "taskres", "ape_t", "tip_adapter_f"):
        return 0
    batch, texts = config["batch_size"], width * classes
    channels = round(config["share"] * width) if method == "ape_t" else 0
    step = {
        "ape_t": images * width + texts + 2 * channels * classes,
        "tip_adapter_f": 2 * images * width + texts,
    }.get(method, 2 * texts)
    return config["epochs"] * max(1, images // batch) * batch * step


class Fitting:
    """A method on made-up features."""

    def __init__(self, method: str, sizes: Sizes) -> None:
        import torch
        import torch.nn.functional as F

        from cliptune.clip import CLIPConfig
        from cliptune.clip.model import CLIP
        from cliptune.clip.tokenizer import default_tokenizer
        from cliptune.registry import build

        small = {"resolution": 32, "image_width": 64, "image_layers": 1, "patch": 16, "context": 77, "vocab": 49408}
        torch.manual_seed(0)
        config = CLIPConfig(embed=sizes.width, text_width=64, text_layers=1, head_width=64, **small)
        self.clip = CLIP(config, default_tokenizer())
        self.recipe = build(method, self.clip, tuple(f"class {i}" for i in range(sizes.classes)))
        self.adapter = self.recipe.adapter
        self.labels = torch.arange(sizes.images) % sizes.classes
        centres = torch.randn(sizes.classes, sizes.width)
        self.embedding = centres[self.labels] + 2 * torch.randn(sizes.images, sizes.width)
        self.text = F.normalize(centres + 2 * torch.randn(sizes.classes, sizes.width), dim=-1)[None]
        self.adapter.text_features()  # of the small tower; encoded once, and no part of what is timed

    def whole(self, steps: int, epochs: int) -> tuple[Spent, str]:
        """What all stages take, and how much of that was done."""
        found, told = Spent(0, 0), ""
        for stage in self.recipe.stages:
            if stage.optimiser is not None:
                every = stage.epochs * max(1, len(self.labels) // stage.batch_size)
                found = found.plus(self.trained(stage, steps), every)
                told = f", {every:,} times the fastest of {steps} steps"
            elif "train" in stage.observe:
                own, told = self.fitted(epochs) if epochs and hasattr(self.adapter.head, "epochs") else (None, told)
                found = found.plus(own or timed(self.fit))
        return found, told

    def fitted(self, epochs: int) -> tuple[Spent, str]:
        """The same for so many epochs of the head's own, of which the fastest makes the rest."""
        from cliptune.heads import explicit

        head, ends = self.adapter.head, []
        every, head.epochs = head.epochs, epochs
        explicit.FEW = explicit.FEW * epochs // every  # the type of the whole training
        head.listener = lambda line, minor: ends.append(Spent.so_far())
        found = timed(self.fit)
        one = min(end.plus(start, -1) for start, end in pairwise(ends))
        apart = found.plus(ends[-1].plus(ends[0], -1), -1)  # all but the epochs after the first
        return apart.plus(one, every - 1), f", {every} times the fastest of {epochs - 1} epochs"

    def fit(self) -> None:
        """Show all images to the head once."""
        import torch
        import torch.nn.functional as F

        from cliptune.adapter import Outputs

        head = self.adapter.eval().head
        if not head.settled:
            head.settle(self.text, self.adapter.texts)
        with torch.no_grad():
            for rows in torch.arange(len(self.labels)).split(1000):
                feature = F.normalize(self.embedding[rows], dim=-1)[:, None]
                similarity = self.clip.scale * feature @ self.text.mT
                logits = similarity.mean(dim=1)  # nothing is learned from what it answers now
                out = Outputs(logits, similarity, feature, self.text, self.embedding[rows][:, None])
                head.observe(out, self.labels[rows], split="train")
            head.refit()

    def trained(self, stage: Any, steps: int) -> Spent:
        """The fastest of some steps as `fit` takes them."""
        import torch

        from cliptune.batch import Batch
        from cliptune.training.distributed import processes
        from cliptune.training.gradients import LossOf, add_gradients
        from cliptune.training.optim import build_optimiser
        from cliptune.training.precision import build_scaler

        adapter = self.adapter.train()
        optimiser = build_optimiser(stage.optimiser, adapter.trainable())
        with processes("cpu") as group:
            model, scaler = group.wrap(LossOf(adapter, stage.objective)), build_scaler("fp32", group.device)
            common = {"progress": 0.0, "whole": stage.batch_size, "pieces": 1, "scaler": scaler, "processes": group}

            def step() -> None:
                rows = torch.randperm(len(self.labels))[: stage.batch_size]
                batch = Batch.of(torch.zeros(len(rows), 0), self.labels[rows])
                optimiser.zero_grad()
                add_gradients(model, batch, self.embedding[rows][:, None], seed=0, **common)
                optimiser.step()

            step()
            step()
            return min(timed(step) for _ in range(steps))


def product_rate() -> Spent:
    """Seconds for each multiplication, the least of many products of 256 images with 1,000 classes of 512 numbers."""
    import torch

    from cliptune.clip.towers.products import linear

    feature, weight = torch.randn(256, 512), torch.randn(1000, 512)
    found = [timed(lambda: linear(feature, weight)) for _ in range(100)]
    count = feature.numel() * len(weight)
    return Spent(min(one.busy for one in found) / count, min(one.clock for one in found) / count)


def report(method: str, sizes: Sizes, steps: int, epochs: int) -> None:
    """Fit one method here, and print its numbers."""
    fitting = Fitting(method, sizes)
    each, before = product_rate(), _peak()
    spent, told = fitting.whole(steps, epochs)
    held = (_peak() - before) / 2**30
    needed = multiplications(method, fitting.recipe.config, sizes)
    floor = f", floor {needed * each.clock:6.1f} s for {2 * needed / 1e12:4.1f} TFLOP" if needed else ""
    print(
        f"{method:14s} {spent.busy:7.1f} s of the processor, {spent.clock:7.1f} s of the clock, {held:5.2f} GiB more"
        f"{floor}{told}",
        flush=True,
    )


def _peak() -> int:
    """Bytes."""
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--images", type=int, default=16_000)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--classes", type=int, default=1_000)
    parser.add_argument("--steps", type=int, default=50, help="of those methods that a loop trains by batches")
    parser.add_argument("--epochs", type=int, default=0, help="of those that train by themselves, above 1; 0 for all")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    asked = parser.parse_args(arguments)
    if asked.one:
        report(asked.one, Sizes(asked.images, asked.width, asked.classes), asked.steps, asked.epochs)
        return
    size = [f"--{name}={getattr(asked, name)}" for name in ("images", "width", "classes", "steps", "epochs")]
    threads = os.environ.get("OMP_NUM_THREADS", "all")
    print(f"{asked.images:,} images, {asked.width} numbers, {asked.classes:,} classes, threads: {threads}", flush=True)
    for method in asked.methods.split(","):
        subprocess.run([sys.executable, __file__, *size, "--one", method], check=True)


if __name__ == "__main__":
    main()
