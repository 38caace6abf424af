"""DVP at ViT-B/16 sizes: its patterns as one batch of views, against one forward per pattern, chunks, and bfloat16.

    python benchmarks/visual_views.py [--patterns 3] [--images 4] [--rounds 3] [--threads 1] [--chunk 4]

Weights and images are random. Every line is a training step (forward and backward to the patterns) on the same images;
printed are the median seconds, the ratio to the first line, and what the step added to the peak memory of a fresh
process, in MiB.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import time
from statistics import median

import torch

from cliptune import methods
from cliptune.adapter import Adapter
from cliptune.batch import Batch
from cliptune.clip import CLIP
from cliptune.clip.openai import OPENAI_CONFIGS
from cliptune.clip.tokenizer import default_tokenizer
from cliptune.prompts import PixelFrame
from cliptune.texts import ClassSet

CLASSES = 5


def described(causes: int) -> ClassSet:
    names = tuple(f"class {i}" for i in range(CLASSES))
    sentences = {f"cause {g}": {n: [f"Cause {g} of {n} looks like this."] * 3 for n in names} for g in range(causes)}
    return ClassSet(names, descriptions=sentences)


def batched(adapter: Adapter, batch: Batch) -> torch.Tensor:
    return adapter(batch).logits


def one_by_one(adapter: Adapter, batch: Batch) -> torch.Tensor:
    """The same logits as they are computed in the released code: a forward per pattern."""
    prompt = adapter.prompt
    assert isinstance(prompt, PixelFrame)
    views = prompt().pixels(batch.images, batch)  # type: ignore[misc]
    image = torch.cat([adapter.clip.encode_image(view[:, None]) for view in views.unbind(1)], dim=1)
    return adapter(batch, image_embedding=image).logits


def measure(kind: str, arguments: argparse.Namespace, answers: multiprocessing.Queue) -> None:
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    clip = CLIP(OPENAI_CONFIGS["ViT-B/16"], default_tokenizer())
    if kind == "bfloat16":
        clip = clip.to(torch.bfloat16)
    chunk = arguments.chunk if kind == "in chunks" else None
    recipe = methods.build("dvp_cse", clip, described(arguments.patterns), m=3, chunk=chunk)
    adapter = recipe.adapter
    adapter.text_features()
    labels = torch.arange(arguments.images) % CLASSES
    batch = Batch.of(torch.rand(arguments.images, 3, adapter.resolution, adapter.resolution), labels)
    forward = one_by_one if kind == "one forward per pattern" else batched
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    seconds = []
    for _ in range(arguments.rounds):
        start = time.perf_counter()
        torch.nn.functional.cross_entropy(forward(adapter, batch), labels).backward()
        seconds.append(time.perf_counter() - start)
    added = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    answers.put((median(seconds), added))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("patterns", 3), ("images", 4), ("rounds", 3), ("threads", 1), ("chunk", 4)):
        parser.add_argument(f"--{name}", type=int, default=default)
    arguments = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    first = None
    for kind in ("one batch of views", "one forward per pattern", "in chunks", "bfloat16"):
        answers = context.Queue()
        process = context.Process(target=measure, args=(kind, arguments, answers))
        process.start()
        seconds, added = answers.get()
        process.join()
        first = first or seconds
        print(f"{kind:26} {seconds:8.2f} s  ratio {seconds / first:5.2f}  peak + {added:6.0f} MiB", flush=True)


if __name__ == "__main__":
    main()
