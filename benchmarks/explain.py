"""What attention statistics cost at ViT-B/16 size: against one plain pass over the same images, in one run.

    python benchmarks/explain.py [--images 200] [--batch 50] [--threads 2]

Prints processor seconds, which other work on the machine changes less than the clock, and peak memory of a plain pass
and of one that records attention by token group, attention distance and entropy per head; and their ratios, which
should stay below 1.5 and 1.3. Each is measured in a fresh process. The statistics take images eight at a time, whatever
the batch. Weights and images are random; the adapter prompts the text alone, so that one pass serves both curves.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Iterator

import torch
from text_tower import adapter_of, peak_bytes, random_clip

from cliptune.adapter import Adapter
from cliptune.analysis.attention import image_attention
from cliptune.batch import Batch

SECONDS, MEMORY = 1.5, 1.3


def batches(images: int, size: int) -> Iterator[Batch]:
    generator = torch.Generator().manual_seed(0)
    for start in range(0, images, size):
        yield Batch.of(torch.rand(min(size, images - start), 3, 224, 224, generator=generator))


@torch.no_grad()
def plain(adapter: Adapter, images: int, size: int) -> None:
    for batch in batches(images, size):
        adapter.clip.encode_image(adapter.views(batch, None))


def recorded(adapter: Adapter, images: int, size: int) -> None:
    image_attention(adapter, batches(images, size))


def measure(what: str, images: int, size: int) -> None:
    adapter = adapter_of(random_clip(), 10)
    run = {"plain": plain, "recorded": recorded}[what]
    run(adapter, 2, 2)
    start = time.process_time()
    run(adapter, images, size)
    print(time.process_time() - start, peak_bytes() / 2**20)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--batch", type=int, default=50)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=1, help="the best of so many, where the machine does other work")
    parser.add_argument("--measure", choices=("plain", "recorded"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    if given.measure:
        measure(given.measure, given.images, given.batch)
        return
    best: dict[str, tuple[float, float]] = {}
    for _ in range(given.rounds):
        for what in ("plain", "recorded"):
            command = [sys.executable, __file__, "--measure", what, "--images", str(given.images)]
            command += ["--batch", str(given.batch), "--threads", str(given.threads)]
            told = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
            best[what] = min(best.get(what, (float("inf"), 0.0)), (float(told[0]), float(told[1])))
    for what, (seconds, memory) in best.items():
        print(f"{what:>9}: {seconds:7.1f} s, {memory:6.0f} MiB")
    ratios = [best["recorded"][i] / best["plain"][i] for i in (0, 1)]
    for name, ratio, limit in zip(("seconds", "memory"), ratios, (SECONDS, MEMORY), strict=True):
        print(f"{name}: {ratio:.2f} times those of a plain pass (at most {limit})")


if __name__ == "__main__":
    main()
