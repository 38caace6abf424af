"""How long Tip-Adapter's search over α and β takes, and how much memory, at the size of ImageNet with 16 shots.

    python benchmarks/cache_search.py [--keys 16000] [--images 50000] [--classes 1000] [--width 512] [--threads 1]
    git archive COMMIT | tar -x -C /tmp/before
    PYTHONPATH=/tmp/before python benchmarks/cache_search.py    # the same with another version

The embeddings are random around a centre for each class, those of the texts as well; no tower is run. 200 values of β
by 20 of α are tried on all images. Told are seconds of the processor on all cores together, seconds of the clock, and
the peak of the process's memory during the search less what it held before, embeddings and votes of texts included.
"""

from __future__ import annotations

import argparse
import resource
import time
from types import SimpleNamespace

import torch
import torch.nn.functional as F
from torch import Tensor

from cliptune.heads import CacheHead

NOISE, SCALE, AT_ONCE = 2.0, 100.0, 1000


def embeddings(centres: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """(n, D) and labels (n,)."""
    labels = torch.arange(n) % len(centres)
    return centres[labels] + NOISE * torch.randn(n, centres.shape[1]), labels


def show(head: CacheHead, text: Tensor, images: tuple[Tensor, Tensor], split: str) -> None:
    for embedding, labels in zip(*(part.split(AT_ONCE) for part in images), strict=True):
        votes = SCALE * F.normalize(embedding, dim=-1) @ text.T
        head.observe(SimpleNamespace(image_embedding=embedding[:, None], similarity=votes[:, None]), labels, split)


def peak() -> float:
    """Megabytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000


def main() -> None:
    parser = argparse.ArgumentParser(description="Tip-Adapter's search at size.")
    for name, usual in (("keys", 16_000), ("images", 50_000), ("classes", 1000), ("width", 512), ("threads", 1)):
        parser.add_argument(f"--{name}", type=int, default=usual)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    torch.manual_seed(0)
    centres = torch.randn(asked.classes, asked.width)
    text = F.normalize(embeddings(centres, asked.classes)[0], dim=-1)
    head = CacheHead(asked.classes, asked.width, alpha=1.17, beta=1.0, largest=(3.0, 7.0)).eval()
    show(head, text, embeddings(centres, asked.keys), "train")
    head.refit()
    show(head, text, embeddings(centres, asked.images), "val")
    before, clock, busy = peak(), time.perf_counter(), time.process_time()
    head.refit()
    clock, busy = time.perf_counter() - clock, time.process_time() - busy
    print(
        f"{asked.keys:,} keys, {asked.images:,} images, {asked.classes:,} classes: {busy:.1f} s of the processor, "
        f"{clock:.1f} s of the clock, {peak() - before:.0f} MB more; {head.chosen['chose']}"
    )


if __name__ == "__main__":
    main()
