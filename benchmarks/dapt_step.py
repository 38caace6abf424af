"""DAPT with Grad-CAM masks over MaPLe at ViT-B/16 sizes, both phases, against MaPLe alone, in one run.

    python benchmarks/dapt_step.py [--classes 50] [--images 4] [--rounds 3]

Weights and images are random. Prints seconds of one core's time per step, which other work on the machine changes
little, and the ratios, which should stay below 3.2.
"""

from __future__ import annotations

import argparse
import time
from statistics import median

import torch
from torchvision.models import ResNet50_Weights

from cliptune import methods
from cliptune.batch import Batch
from cliptune.clip import CLIP
from cliptune.clip.tokenizer import default_tokenizer
from cliptune.clip.weights.openai import OPENAI_CONFIGS
from cliptune.recipe import Recipe

# Name → add-on, share of the epochs that is done: pull-push at first, foreground and background later.
STEPS = {"plain": ("", 0.0), "pull-push": ("+dapt", 0.0), "fore- and background": ("+dapt", 0.9)}


def seconds_of(recipe: Recipe, batch: Batch, progress: float) -> float:
    """Of one core, for the loss and its gradient."""
    adapter, objective = recipe.adapter.train(), recipe.stages[0].objective
    start = time.process_time()
    loss, _ = objective(adapter(batch, needs=frozenset(objective.needs)), batch, progress)
    loss.backward()
    return time.process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--classes", type=int, default=50)
    parser.add_argument("--images", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    clip = CLIP(OPENAI_CONFIGS["ViT-B/16"], default_tokenizer(), "ViT-B/16, random weights")
    names = ResNet50_Weights.IMAGENET1K_V1.meta["categories"][: options.classes]
    side = clip.image.resolution
    batch = Batch.of(torch.rand(options.images, 3, side, side), torch.arange(options.images))
    recipes = {add_on: methods.build(f"maple{add_on}", clip, names) for add_on in ("", "+dapt")}
    seconds: dict[str, list[float]] = {name: [] for name in STEPS}
    for _ in range(options.rounds):
        for name, (add_on, progress) in STEPS.items():
            seconds[name].append(seconds_of(recipes[add_on], batch, progress))
    plain = median(seconds["plain"])
    for name, values in seconds.items():
        print(f"{name:22} {median(values):7.2f} s per step, ratio {median(values) / plain:5.2f}")


if __name__ == "__main__":
    main()
