"""A data set of coloured squares and short recipes on a tiny CLIP."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from cliptune.clip import CLIP
from cliptune.data.items import Dataset, Split
from cliptune.recipe import Recipe
from cliptune.registry import build

NAMES = ("red", "green", "blue")


def squares(per_class: dict[str, int] | None = None, side: int = 36) -> Dataset:
    """Noisy squares, one colour channel bright per class."""
    counts = per_class or {"train": 6, "val": 3, "test": 4}
    generator = torch.Generator().manual_seed(7)

    def split(name: str) -> Split:
        n = counts.get(name, 0)
        if not n:
            return Split.empty()
        labels = torch.arange(len(NAMES)).repeat(n)
        images = 0.5 * torch.rand(len(labels), 3, side, side, generator=generator)
        images[torch.arange(len(labels)), labels] += 0.4
        return Split.of_images(images, labels, NAMES, prefix=name)

    return Dataset("squares", NAMES, split("train"), split("val"), split("test"))


def few(counts: Sequence[int], times: int = 1) -> Dataset:
    """The squares with that many training images of each class, each of them `times` times."""
    data = squares()
    labels = data.train.labels.tolist()
    own = [[i for i, label in enumerate(labels) if label == c] for c in range(len(NAMES))]
    kept = [i for c, n in enumerate(counts) for i in own[c][:n] for _ in range(times)]
    return replace(data, train=data.train.subset(kept))


def recipe(clip: CLIP, method: str = "coop", **options: object) -> Recipe:
    defaults: dict[str, object] = {"batch_size": 4, "epochs": 3, "lr": 0.05} if method != "zeroshot" else {}
    return build(method, clip, NAMES, seed=3, **{**defaults, **options})
