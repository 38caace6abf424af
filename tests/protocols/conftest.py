"""A small data set in memory, and the tiny CLIP."""

from __future__ import annotations

import pytest
import torch

from cliptune.data import Dataset, from_images

NAMES = ("lynx", "puma", "red fox", "snow", "blue jay")


@pytest.fixture
def dataset() -> Dataset:
    """Five classes of noisy colours, 32 pixels: 4 train, 2 val, 3 test pictures each."""
    draw = torch.Generator().manual_seed(0)
    colours = torch.rand(len(NAMES), 3, 1, 1, generator=draw)

    def pictures(per_class: int) -> tuple[torch.Tensor, list[int]]:
        labels = [label for label in range(len(NAMES)) for _ in range(per_class)]
        noise = 0.2 * torch.rand(len(labels), 3, 32, 32, generator=draw)
        return (0.8 * colours[labels] + noise).clamp(0, 1), labels

    return from_images(*pictures(4), NAMES, val=pictures(2), test=pictures(3), template="a drawing of a {}.")
