"""DPC's second stage over MaPLe at ViT-B/16 sizes, against plain cross-entropy over as many images, in one run.

    python benchmarks/dpc_step.py [--classes 50] [--rounds 3]

A DPC step scores its images with the frozen tuned prompt, draws hard negatives and trains the parallel prompt on all
pairs. The plain step trains MaPLe on the same number of images. Weights and images are random. Prints seconds of one
core's time per step, which other work on the machine changes little, and their ratio, which should stay below 1.3.
"""

from __future__ import annotations

import argparse
import time
from random import Random
from statistics import median

import torch
from torchvision.models import ResNet50_Weights

from cliptune import methods
from cliptune.adapter import Adapter
from cliptune.batch import Batch
from cliptune.clip import CLIP
from cliptune.clip.tokenizer import default_tokenizer
from cliptune.clip.weights.openai import OPENAI_CONFIGS
from cliptune.recipe import Recipe, Stage

IMAGES_PER_CLASS = 2


class RandomPictures:
    """A pool of pictures of noise, made when they are asked for."""

    def __init__(self, classes: int, resolution: int) -> None:
        self.labels = torch.arange(classes).repeat(IMAGES_PER_CLASS)
        self.random = Random(0)
        self.resolution = resolution

    def __call__(self, positions: list[int]) -> Batch:
        index = torch.tensor(positions)
        return Batch(torch.rand(len(index), 3, self.resolution, self.resolution), self.labels[index], index)

    def embedding(self, batch: Batch) -> None:
        return None


def train(adapter: Adapter, stage: Stage, batch: Batch) -> None:
    adapter.train()
    loss, _ = stage.objective(adapter(batch), batch, 0.0)
    loss.backward()


def begun(recipe: Recipe) -> Recipe:
    for begin in recipe.stages[-1].before:
        begin(recipe.adapter)
    return recipe


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--classes", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    clip = CLIP(OPENAI_CONFIGS["ViT-B/16"], default_tokenizer(), "ViT-B/16, random weights")
    names = ResNet50_Weights.IMAGENET1K_V1.meta["categories"][: options.classes]
    plain, dual = methods.build("maple", clip, names), begun(methods.build("maple+dpc", clip, names))
    stage, pool = dual.stages[-1], RandomPictures(options.classes, clip.image.resolution)
    anchors = pool(list(range(stage.batch_size)))
    seconds: dict[str, list[float]] = {"cross-entropy": [], "dpc": []}
    # The first round warms up: the tuned prompt's texts are encoded once per stage.
    for number in range(options.rounds + 1):
        start = time.process_time()
        pairs = stage.sampler(dual.adapter, anchors, pool)
        train(dual.adapter, stage, pairs)
        middle = time.process_time()
        train(plain.adapter, plain.stages[0], pairs)
        end = time.process_time()
        if number:
            seconds["dpc"].append(middle - start)
            seconds["cross-entropy"].append(end - middle)
            print(f"round {number}: {len(pairs)} images, {middle - start:.2f} s and {end - middle:.2f} s", flush=True)
    for name, values in seconds.items():
        print(f"{name:14} {median(values):7.2f} s per step")
    print(f"ratio          {median(seconds['dpc']) / median(seconds['cross-entropy']):7.2f}")


if __name__ == "__main__":
    main()
