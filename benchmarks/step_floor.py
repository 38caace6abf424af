"""How far a training step is from the matrix products that it cannot do without, at ViT-B/16 sizes, on one thread.

    python benchmarks/step_floor.py [vpt ivlp maple …] [--classes 50] [--batch 4] [--layers 12] [--rounds 3]
    git archive COMMIT | tar -x -C /tmp/before
    python benchmarks/step_floor.py --before /tmp/before
    python benchmarks/step_floor.py promptsrc --beside "python /tmp/release/steps.py"

The floor is the time of the products that `products.py` counts from the adapter's own shapes, each timed by itself in
the same run, as one `torch.mm` or `torch.bmm` of that very shape into memory that is there already. A step is forward,
loss and backward, as `fit` does them. Both are processor time of one thread, which other programs on the machine change
little, and take turns (floor, step, floor, step, …); shown is the least of the rounds. "done" is what torch's
FlopCounterMode counts in the step, the products of fused attention included, over what is required: above 1 it is work
that nobody reads. With `--before`, the steps of another version of the library take turns with them in a process of
their own. So do those of any other code with `--beside`, such as a paper's release: a command that takes --classes,
--batch and --layers, says by a line that it is ready, and answers each line of its input, a method's name, with the
seconds of processor time of one step. Weights and images are random.
"""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from math import prod
from pathlib import Path
from typing import Any

AGAIN = ":again"
METHODS = (
    "vpt",
    "ivlp",
    "maple",
    "promptsrc",
    f"promptsrc{AGAIN}",
    "dvp_cse",
    "ar",
    "coop",
    "cocoop",
    "bias_tuning",
    "clip_lora",
)
# As in the methods' papers: CoCoOp sees one image at a time. DVP's batch of 32 is its own; time only scales with it.
BATCHES = {"cocoop": 1}


class Steps:
    """Training steps of this process's version of the library."""

    def __init__(self, classes: int, batch: int, layers: int) -> None:
        import torch
        from torchvision.models import ResNet50_Weights

        from cliptune import methods
        from cliptune.batch import Batch
        from cliptune.clip import CLIP
        from cliptune.clip.model import CLIPConfig
        from cliptune.clip.tokenizer import default_tokenizer

        torch.set_num_threads(1)
        torch.manual_seed(0)
        sizes = CLIPConfig(512, 224, 768, layers, 16, 77, 49408, 512, layers)
        self.clip = CLIP(sizes, default_tokenizer(), "ViT-B/16, random weights")
        self.names = ResNet50_Weights.IMAGENET1K_V1.meta["categories"][:classes]
        self.build, self.batch, self.Batch = methods.build, batch, Batch

    @cache  # noqa: B019 - one object per process
    def prepared(self, method: str) -> tuple[Callable[[], None], object, object, frozenset[str]]:
        """A step, and what it is made of: adapter, batch, needs."""
        import torch

        from cliptune.training.gradients import LossOf

        name, again, _ = method.partition(AGAIN)
        recipe = self.build(name, self.clip, self.names)
        adapter, objective, size = recipe.adapter.train(), recipe.stages[-1].objective, BATCHES.get(method, self.batch)
        side = adapter.resolution
        batch = self.Batch(torch.rand(size, 3, side, side), torch.arange(size), torch.arange(size))
        if again and hasattr(batch, "bare"):
            with torch.no_grad():
                batch = replace(batch, bare=self.clip.encode_image(adapter.views(batch, None)))
        self.settle(recipe, batch)
        model = LossOf(adapter, objective)

        def step() -> None:
            for parameter in adapter.trainable().values():
                parameter.grad = None
            model(batch, None, 0.0).backward()

        return step, adapter, batch, objective.needs

    def settle(self, recipe: object, batch: object) -> None:
        """Stages in front that only observe: a head may have to see images once."""
        import torch

        adapter = recipe.adapter  # type: ignore[attr-defined]
        if any(stage.optimiser is None for stage in recipe.stages):  # type: ignore[attr-defined]
            with torch.no_grad():
                adapter.head.observe(adapter(batch), batch.labels, split="train")  # type: ignore[attr-defined]
                adapter.head.refit()

    def seconds(self, method: str) -> float:
        step = self.prepared(method)[0]
        begun = time.process_time()
        step()
        return time.process_time() - begun


def worker(steps: Steps) -> None:
    """Answer each line of the input, a method's name, with the seconds of a step."""
    print("ready", flush=True)
    for line in sys.stdin:
        print(steps.seconds(line.strip()), flush=True)


class Other:
    """A process that takes the steps of other code, as `worker` does."""

    def __init__(self, command: list[str], **surroundings: Any) -> None:
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self.process = subprocess.Popen(command, **pipes, **surroundings)
        self.process.stdout.readline()

    def seconds(self, method: str) -> float:
        self.process.stdin.write(f"{method}\n")
        self.process.stdin.flush()
        return float(self.process.stdout.readline())


def version(folder: Path, options: list[str]) -> Other:
    """Another version of the library."""
    surroundings = {**os.environ, "PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"}
    return Other([sys.executable, __file__, "--worker", *options], cwd=folder, env=surroundings)


def product_seconds(product: object) -> float:
    """Processor time of one product, the least of three."""
    import torch

    rows, inner, outer, count, turned = product  # type: ignore[misc]
    lead = (count,) if count > 1 else ()
    a = torch.randn(*lead, rows, inner)
    b = torch.randn(*lead, outer, inner).mT if turned else torch.randn(*lead, inner, outer)
    out = torch.empty(*lead, rows, outer)
    found = []
    for _ in range(3):
        begun = time.process_time()
        torch.matmul(a, b, out=out)
        found.append(time.process_time() - begun)
    return min(found)


def done(step: Callable[[], None]) -> int:
    """What one step really does, in FLOP."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

    aten = torch.ops.aten
    kernels = {
        aten._scaled_dot_product_flash_attention_for_cpu: lambda q, k, v, *_, **__: sdpa_flop_count(q, k, v),
        # Less one of the five products: the weights are made anew in place of being kept.
        aten._scaled_dot_product_flash_attention_for_cpu_backward: lambda g, q, k, v, *_, **__: (
            sdpa_backward_flop_count(g, q, k, v)
        ),
    }
    if hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        kernels[torch.ops.mkldnn._linear_pointwise] = lambda x, weight, *_, **__: 2 * prod(x) * weight[0]
    with FlopCounterMode(display=False, custom_mapping=kernels) as counter:
        step()
    return counter.get_total_flops()


def measured(method: str, steps: Steps, others: list[Other], rounds: int) -> str:
    """A row of the table."""
    import torch

    from benchmarks.products import step_products

    step, adapter, batch, needs = steps.prepared(method)
    step()  # what is kept once, such as fixed texts, is no part of a step
    needed = step_products(adapter, batch, needs)  # type: ignore[arg-type]
    flop = sum(product.flop * times for product, times in needed.items())
    for other in others:
        other.seconds(method)
    floors: list[float] = []
    now: list[float] = []
    taken: list[list[float]] = [[] for _ in others]
    for _ in range(rounds):
        with torch.no_grad():
            floors.append(sum(product_seconds(product) * times for product, times in needed.items()))
        now.append(steps.seconds(method))
        for other, found in zip(others, taken, strict=True):
            found.append(other.seconds(method))
    floor, own = min(floors), min(now)
    row = [method, f"{flop / 1e9:.0f}", f"{done(step) / flop:.3f}", f"{flop / floor / 1e9:.0f}", f"{floor:.2f}"]
    row += [f"{own:.2f}", f"{own / floor:.3f}"]
    for found in taken:
        row += [f"{min(found):.2f}", f"{min(found) / floor:.3f}", f"{min(found) / own:.3f}"]
    return f"| {' | '.join(row)} |"


def main() -> int:
    parser = argparse.ArgumentParser(description="Training steps over the matrix products that they need.")
    parser.add_argument("methods", nargs="*", default=METHODS)
    parser.add_argument("--classes", type=int, default=50)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--before", type=Path, help="folder of another version of the library")
    parser.add_argument("--beside", help="command that takes the steps of other code")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    sizes = {name: getattr(asked, name) for name in ("classes", "batch", "layers")}
    steps = Steps(**sizes)
    if asked.worker:
        worker(steps)
        return 0
    options = [text for name, value in sizes.items() for text in (f"--{name}", str(value))]
    heads = ["method", "GFLOP needed", "done / needed", "GFLOP/s of the floor", "floor s", "step s", "step / floor"]
    others = []
    if asked.before is not None:
        others.append(version(asked.before.resolve(), options))
        heads += ["before s", "before / floor", "before / step"]
    if asked.beside:
        others.append(Other([*shlex.split(asked.beside), *options]))
        heads += ["beside s", "beside / floor", "beside / step"]
    print(f"| {' | '.join(heads)} |\n|{'---|' * len(heads)}")
    for method in asked.methods:
        print(measured(method, steps, others, asked.rounds), flush=True)
    return 0


if __name__ == "__main__":
    if "--worker" not in sys.argv:  # which has the other version's folder in its path
        sys.path.insert(1, str(Path(__file__).resolve().parent.parent))
    sys.exit(main())
