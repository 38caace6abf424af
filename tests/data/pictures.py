"""Pictures and folders that the tests of this room write."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

GOLDEN = Path(__file__).parents[1] / "golden"


def noise(seed: int, width: int = 23, height: int = 17) -> Image.Image:
    """A random RGB picture, width and height different."""
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def write_classes(root: Path, counts: Mapping[str, int], suffix: str = ".png", start: int = 0) -> None:
    """Class folders with so many noise pictures each."""
    for k, (name, count) in enumerate(counts.items()):
        (root / name).mkdir(parents=True, exist_ok=True)
        for i in range(count):
            noise(start + 1000 * k + i).save(root / name / f"p{i:02d}{suffix}")
