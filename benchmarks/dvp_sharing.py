"""What DVP's patterns could share of one picture before attention mixes it with their frames, at ViT-B/16 sizes.

    python benchmarks/dvp_sharing.py [--patterns 3] [--batch 4] [--rounds 5]

V patterns frame the same inner picture, so that up to the first attention the rows of its inner patches are the same in
all V views, and those of the frame's patches the same for all B images. Timed are the patch embedding, the LayerNorms
and the keys, queries and values of the first block for all B V views, and for B inner pictures and V frames alone; and
the step as a whole. Processor time of one thread, in turn, the least of the rounds. Weights and images are random.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor


def least(runs: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Seconds of each, taking turns; the first turn warms up."""
    found: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(rounds + 1):
        for name, run in runs.items():
            begun = time.process_time()
            run()
            if turn:
                found[name].append(time.process_time() - begun)
    return {name: min(values) for name, values in found.items()}


def main() -> int:
    parser = argparse.ArgumentParser(description="What DVP's patterns could share.")
    parser.add_argument("--patterns", type=int, default=3)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    sys.path.insert(1, str(Path(__file__).resolve().parent.parent))
    from benchmarks.products import moving_patches
    from benchmarks.step_floor import Steps

    steps = Steps(50, asked.batch, 12)
    step, adapter, _, _ = steps.prepared("dvp_cse")
    tower = steps.clip.image
    block = tower.transformer.blocks[0]  # type: ignore[union-attr]
    frame = moving_patches(adapter)  # type: ignore[arg-type]
    inner = tower.patches - frame  # type: ignore[attr-defined, operator]

    def pixels_of(rows: int) -> Tensor:
        """As many patches as these rows, in one strip."""
        return torch.randn(1, 3, tower.patch, tower.patch * rows)  # type: ignore[operator]

    def begin(pixels: Tensor) -> None:
        with torch.no_grad():
            x = tower.conv1(pixels).flatten(2).mT  # type: ignore[operator]
            block.attn.qkv(block.ln_1(tower.ln_pre(x)))  # type: ignore[operator]

    views = asked.batch * asked.patterns
    every, shared = pixels_of(views * (frame + inner)), pixels_of(asked.batch * inner + asked.patterns * frame)
    took = least({"every": lambda: begin(every), "shared": lambda: begin(shared), "step": step}, asked.rounds)
    saved = took["every"] - took["shared"]
    print("| views | patches of the frame | of the picture | before attention, s | shared, s | step, s | saved, % |")
    print("|---|---|---|---|---|---|---|")
    numbers = f"{took['every']:.3f} | {took['shared']:.3f} | {took['step']:.2f} | {100 * saved / took['step']:.2f}"
    print(f"| {asked.batch} × {asked.patterns} | {frame} | {inner} | {numbers} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
