"""DVP at ViT-B/16 sizes: its patterns as one batch of views against one forward per pattern, bfloat16, and chunks.

    python benchmarks/visual_views.py [--patterns 3] [--images 4] [--rounds 2] [--threads 2]

Weights and images are random; a step is forward and backward to the patterns. What is compared takes turns, so that
whatever else the machine does meets both; ratios are taken within a round. bfloat16 steps are taken on two of the
twelve blocks: where a processor has no instructions for it, their backward pass is a hundred times slower. At last, for
each size of chunk, a fresh process tells what one step added to its resident memory at most.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import median

import torch
import torch.nn.functional as F

from cliptune import methods
from cliptune.adapter import Adapter
from cliptune.batch import Batch
from cliptune.clip import CLIP
from cliptune.clip.tokenizer import default_tokenizer
from cliptune.clip.weights.openai import OPENAI_CONFIGS
from cliptune.prompts import PixelFrame
from cliptune.texts import ClassSet

CLASSES = 5
FEW_BLOCKS = 2


def dvp(
    patterns: int, dtype: torch.dtype = torch.float32, chunk: int | None = None, blocks: int | None = None
) -> Adapter:
    torch.manual_seed(0)
    config = OPENAI_CONFIGS["ViT-B/16"]
    clip = CLIP(replace(config, image_layers=blocks or config.image_layers), default_tokenizer()).to(dtype)
    names = tuple(f"class {i}" for i in range(CLASSES))
    sentences = {f"cause {g}": {n: [f"Cause {g} of {n} looks like this."] * 3 for n in names} for g in range(patterns)}
    adapter = methods.build("dvp_cse", clip, ClassSet(names, descriptions=sentences), m=3, chunk=chunk).adapter
    adapter.text_features()  # encoded once per run
    return adapter


def images_for(adapter: Adapter, count: int) -> Batch:
    return Batch.of(torch.rand(count, 3, adapter.resolution, adapter.resolution), torch.arange(count) % CLASSES)


def batched(adapter: Adapter, batch: Batch) -> torch.Tensor:
    return adapter(batch).logits


def one_by_one(adapter: Adapter, batch: Batch) -> torch.Tensor:
    """The same logits as the released code computes them: a forward per pattern."""
    assert isinstance(adapter.prompt, PixelFrame)
    views = adapter.views(batch, adapter.prompt().pixels)
    embedding = torch.cat([adapter.clip.encode_image(view[:, None]) for view in views.unbind(1)], dim=1)
    return adapter(batch, image_embedding=embedding).logits


def step(adapter: Adapter, batch: Batch, forward: Callable[[Adapter, Batch], torch.Tensor] = batched) -> float:
    """Seconds of a step."""
    adapter.zero_grad()
    start = time.perf_counter()
    F.cross_entropy(forward(adapter, batch), batch.labels).backward()
    return time.perf_counter() - start


@torch.no_grad()
def answer(adapter: Adapter, batch: Batch) -> float:
    """Seconds of a forward pass alone."""
    start = time.perf_counter()
    adapter(batch)
    return time.perf_counter() - start


def compare(rounds: int, **kinds: Callable[[], float]) -> None:
    """Seconds of each kind, and their ratio to the first."""
    found: dict[str, list[float]] = {kind: [] for kind in kinds}
    for number in range(rounds):
        # there and back again, so that none always comes first
        for kind in list(kinds) if number % 2 == 0 else reversed(kinds):
            found[kind].append(kinds[kind]())
    first = next(iter(found.values()))
    for kind, seconds in found.items():
        ratio = median(b / a for a, b in zip(first, seconds, strict=True))
        print(f"{kind.replace('_', ' '):40} {median(seconds):8.2f} s  ratio {ratio:6.2f}", flush=True)


def compare_all(patterns: int, images: int, rounds: int) -> None:
    adapter = dvp(patterns)
    batch, one = images_for(adapter, images), images_for(adapter, 1)
    step(adapter, one)
    compare(
        rounds,
        step_with_one_batch_of_views=lambda: step(adapter, batch),
        step_with_one_forward_per_pattern=lambda: step(adapter, batch, one_by_one),
    )
    half = dvp(patterns, torch.bfloat16)
    compare(
        rounds,
        answer_1_image_float32=lambda: answer(adapter, one),
        answer_1_image_bfloat16=lambda: answer(half, one),
    )
    few = {dtype: dvp(patterns, dtype, blocks=FEW_BLOCKS) for dtype in (torch.float32, torch.bfloat16)}
    compare(
        1,
        **{
            f"step on {FEW_BLOCKS} blocks, 1 image, {str(dtype).removeprefix('torch.')}": lambda a=some: step(a, one)
            for dtype, some in few.items()
        },
    )


def resident(what: str) -> int:
    """Bytes: VmRSS at present, VmHWM at most since the last reset."""
    status = Path("/proc/self/status")
    if status.exists():
        (line,) = (line for line in status.read_text().splitlines() if line.startswith(what))
        return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # macOS knows the peak alone, in bytes


def added_memory(patterns: int, images: int, threads: int, chunk: int | None, answers: multiprocessing.Queue) -> None:
    """MiB that a step adds at most, and its seconds."""
    torch.set_num_threads(threads)
    adapter = dvp(patterns, chunk=1)
    step(adapter, images_for(adapter, 1))  # builds and loads what stays, also for computing pieces again
    adapter.chunk = chunk
    reset = Path("/proc/self/clear_refs")
    if reset.exists():
        reset.write_text("5")
    before = resident("VmRSS")
    seconds = step(adapter, images_for(adapter, images))
    answers.put(((resident("VmHWM") - before) / 2**20, seconds))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("patterns", 3), ("images", 4), ("rounds", 2), ("threads", 2)):
        parser.add_argument(f"--{name}", type=int, default=default)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    patterns, images = arguments.patterns, arguments.images
    capability = torch.backends.cpu.get_cpu_capability()
    print(f"{images} images, {patterns} patterns, {arguments.threads} threads, {capability}", flush=True)
    compare_all(patterns, images, arguments.rounds)
    context = multiprocessing.get_context("spawn")
    for chunk in (None, patterns * max(1, images // 2), patterns):
        answers = context.Queue()
        process = context.Process(target=added_memory, args=(patterns, images, arguments.threads, chunk, answers))
        process.start()
        added, seconds = answers.get()
        process.join()
        what = "all views at once" if chunk is None else f"chunks of {chunk} views"
        print(f"{what:40} {seconds:8.2f} s  peak + {added:6.0f} MiB", flush=True)


if __name__ == "__main__":
    main()
