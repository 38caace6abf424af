"""How far a training step is from the matrix products that it cannot do without, at ViT-B/16 sizes, on one thread.

    python benchmarks/step_floor.py [vpt ivlp maple …] [--classes 50] [--batch 4] [--layers 12] [--rounds 3]
    git archive COMMIT | tar -x -C /tmp/before
    python benchmarks/step_floor.py --before /tmp/before
    python benchmarks/step_floor.py promptsrc --test --beside "python benchmarks/released.py --release FOLDER"

The floor is the time of the products that `products.py` counts from the adapter's own shapes, each timed by itself in
the same run, as one `torch.mm` or `torch.bmm` of that very shape into memory that is there already. A step is forward,
loss and backward, as `fit` does them. Both are processor time of one thread, which other programs on the machine change
little, and take turns (floor, step, floor, step, …); shown is the least of the rounds. "done" is what torch's
FlopCounterMode counts in the step, the products of fused attention included, over what is required: above 1 it is work
that nobody reads. With `--before`, the steps of another version of the library take turns with them in a process of
their own. So do those of any other code with `--beside`, such as papers' releases (`released.py`): a command that takes
--classes, --batch and --layers, and answers as `turns.py` says. Both are started anew for each method. Weights and
images are random.

With `--test`, two more things are compared. "test s" is a test batch of as many images as a step has: forward in
evaluation mode without gradients, from pixels to logits. Ours has its texts encoded before, as an evaluation does once
for all of its batches; what that takes is "texts s". Where the texts depend on the image (CoCoOp), they are part of the
test batch, and "texts s" is nothing. Other code does in its test batch whatever it does there; releases that learn
words encode all texts in each. An evaluation of n batches thus takes n · test + texts here, n · beside test there.
Embeddings that the library's store may keep for the next evaluation (CoOp's images) are computed. "peak GiB" is the
resident memory that a process has held at most, from its start on and with its weights, after steps and test batches of
this method alone. For that, ours are taken in a process of their own as well.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from functools import cache, partial
from math import prod
from pathlib import Path

from turns import BATCHES, MEMORY, STEP, TEST, Other, answer_lines, peak_gib, processor_seconds

ROOT = Path(__file__).resolve().parent.parent
TEXTS = "texts"
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
        return processor_seconds(self.prepared(method)[0])

    def test_seconds(self, method: str) -> float:
        """Of a test batch. Texts are encoded before, but for those that depend on the image."""
        import torch

        _, adapter, batch, _ = self.prepared(method)
        with adapter.evaluating(), torch.no_grad():  # type: ignore[attr-defined]
            texts = adapter.text_features()  # type: ignore[attr-defined]
            return processor_seconds(lambda: adapter(batch, text_features=texts))  # type: ignore[operator]

    def text_seconds(self, method: str) -> float:
        """Of the texts that an evaluation encodes once; next to nothing where they depend on the image."""
        adapter = self.prepared(method)[1]
        fresh = adapter.for_texts(adapter.classes)  # type: ignore[attr-defined]  # has no text encoded yet
        with fresh.evaluating():
            return processor_seconds(fresh.text_features)

    def answer(self, method: str, what: str = STEP) -> float:
        """What `turns.py` lets one ask, and the texts."""
        if what == MEMORY:
            return peak_gib()
        return {STEP: self.seconds, TEST: self.test_seconds, TEXTS: self.text_seconds}[what](method)


def version(folder: Path, options: list[str]) -> Other:
    """A version of the library, in a process of its own."""
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
    return min(processor_seconds(lambda: torch.matmul(a, b, out=out)) for _ in range(3))


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


def measured(method: str, steps: Steps, own: Steps | Other, others: list[Other], rounds: int, test: bool) -> str:
    """A row of the table. `own` takes our steps, `steps` tells what they are made of."""
    import torch

    from benchmarks.products import step_products

    step, adapter, batch, needs = steps.prepared(method)
    step()  # what is kept once, such as fixed texts, is no part of a step
    needed = step_products(adapter, batch, needs)  # type: ignore[arg-type]
    flop = sum(product.flop * times for product, times in needed.items())
    asked = [(one, what) for what in ((STEP, TEST) if test else (STEP,)) for one in (own, *others)]
    asked += [(own, TEXTS)] if test else []
    for one, what in asked:
        one.answer(method, what)
    floors: list[float] = []
    found: dict[tuple[Steps | Other, str], list[float]] = {pair: [] for pair in asked}
    for _ in range(rounds):
        with torch.no_grad():
            floors.append(sum(product_seconds(product) * times for product, times in needed.items()))
        for one, what in asked:
            found[one, what].append(one.answer(method, what))
    floor, least = min(floors), {pair: min(taken) for pair, taken in found.items()}
    row = [method, f"{flop / 1e9:.0f}", f"{done(step) / flop:.3f}", f"{flop / floor / 1e9:.0f}", f"{floor:.2f}"]
    row += [f"{least[own, STEP]:.2f}", f"{least[own, STEP] / floor:.3f}"]
    for other in others:
        taken = least[other, STEP]
        row += [f"{taken:.2f}", f"{taken / floor:.3f}", f"{taken / least[own, STEP]:.3f}"]
    if test:
        least |= {(one, MEMORY): one.answer(method, MEMORY) for one in (own, *others)}
        row += [f"{least[own, what]:.2f}" for what in (TEST, TEXTS, MEMORY)]
        for other in others:
            for what in (TEST, MEMORY):
                row += [f"{least[other, what]:.2f}", f"{least[other, what] / least[own, what]:.3f}"]
    return f"| {' | '.join(row)} |"


def heads(names: list[str], test: bool) -> list[str]:
    """Of the table's columns, with those of the other programs."""
    found = ["method", "GFLOP needed", "done / needed", "GFLOP/s of the floor", "floor s", "step s", "step / floor"]
    found += [head for name in names for head in (f"{name} s", f"{name} / floor", f"{name} / step")]
    if test:
        found += ["test s", "texts s", "peak GiB"]
        for name in names:
            found += [f"{name} test s", f"{name} test / test", f"{name} peak GiB", f"{name} peak / peak"]
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description="Training steps over the matrix products that they need.")
    parser.add_argument("methods", nargs="*", default=METHODS)
    parser.add_argument("--classes", type=int, default=50)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--before", type=Path, help="folder of another version of the library")
    parser.add_argument("--beside", help="command that takes the steps of other code")
    parser.add_argument("--test", action="store_true", help="test batches and peak memory as well")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    sizes = {name: getattr(asked, name) for name in ("classes", "batch", "layers")}
    steps = Steps(**sizes)
    if asked.worker:
        answer_lines(steps.answer)
        return 0
    options = [text for name, value in sizes.items() for text in (f"--{name}", str(value))]
    starts: dict[str, Callable[[], Other]] = {}
    if asked.before is not None:
        starts["before"] = partial(version, asked.before.resolve(), options)
    if asked.beside:
        starts["beside"] = partial(Other, [*shlex.split(asked.beside), *options])
    columns = heads(list(starts), asked.test)
    print(f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}")
    for method in asked.methods:
        with ExitStack() as running:  # each method has processes of its own, so that memory is its own
            own = running.enter_context(version(ROOT, options)) if asked.test else steps
            others = [running.enter_context(start()) for start in starts.values()]
            print(measured(method, steps, own, others, asked.rounds, asked.test), flush=True)
    return 0


if __name__ == "__main__":
    if "--worker" not in sys.argv:  # which has the other version's folder in its path
        sys.path.insert(1, str(ROOT))
    sys.exit(main())
