"""How long every head takes to be fitted, and how much memory, at the size of ImageNet with 16 shots.

Each method is fitted in a process of its own to random features around a centre for each class (16,000 images, 512
numbers, 1,000 classes, if not told otherwise), without a tower: the embeddings are given. Told are seconds of the
processor on all cores together, which other programs on the machine change little; seconds of the clock; and the peak
of the process's memory less what it held before.

    python benchmarks/heads.py --methods gda,linear_probe
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import time
from collections.abc import Sequence

METHODS = "gda,ss_text,tip_adapter,ape,proker,zs_probe,clap,lp_plus_plus,linear_probe"


def fitted(method: str, images: int, width: int, classes: int) -> None:
    """Fit one method here, and print its numbers."""
    import torch
    import torch.nn.functional as F

    from cliptune.adapter import Outputs
    from cliptune.clip import CLIPConfig
    from cliptune.clip.model import CLIP
    from cliptune.clip.tokenizer import default_tokenizer
    from cliptune.registry import build

    sizes = {"resolution": 32, "image_width": 64, "image_layers": 1, "patch": 16, "context": 77, "vocab": 49408}
    torch.manual_seed(0)
    clip = CLIP(CLIPConfig(embed=width, text_width=64, text_layers=1, head_width=64, **sizes), default_tokenizer())
    adapter = build(method, clip, tuple(f"class {i}" for i in range(classes))).adapter.eval()
    labels = torch.arange(images) % classes
    centres = torch.randn(classes, width)
    embedding = centres[labels] + 2 * torch.randn(images, width)
    text = F.normalize(centres + 2 * torch.randn(classes, width), dim=-1)[None]
    if not adapter.head.settled:
        adapter.head.settle(text, adapter.texts)
    before, start, busy = _peak(), time.perf_counter(), time.process_time()
    with torch.no_grad():
        for rows in torch.arange(images).split(1000):
            feature = F.normalize(embedding[rows], dim=-1)[:, None]
            similarity = clip.scale * feature @ text.mT
            logits = similarity.mean(dim=1)  # nothing is learned from what it answers now
            out = Outputs(logits, similarity, feature, text, embedding[rows][:, None])
            adapter.head.observe(out, labels[rows], split="train")
        adapter.head.refit()
    clock, busy = time.perf_counter() - start, time.process_time() - busy
    held = (_peak() - before) / 2**30
    print(f"{method:14s} {busy:7.1f} s of the processor, {clock:7.1f} s of the clock, {held:5.2f} GiB more", flush=True)


def _peak() -> int:
    """Bytes."""
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", default=METHODS)
    parser.add_argument("--images", type=int, default=16_000)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--classes", type=int, default=1_000)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    asked = parser.parse_args(arguments)
    if asked.one:
        fitted(asked.one, asked.images, asked.width, asked.classes)
        return
    size = ["--images", str(asked.images), "--width", str(asked.width), "--classes", str(asked.classes)]
    threads = os.environ.get("OMP_NUM_THREADS", "all")
    print(f"{asked.images:,} images, {asked.width} numbers, {asked.classes:,} classes, threads: {threads}", flush=True)
    for method in asked.methods.split(","):
        subprocess.run([sys.executable, __file__, *size, "--one", method], check=True)


if __name__ == "__main__":
    main()
