"""Pictures and folders that the tests of this room write."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

GOLDEN = Path(__file__).parents[1] / "golden"


def noise(seed: int, width: int = 23, height: int = 17) -> Image.Image:
    """A random RGB picture, width and height different."""
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def gradient(width: int, height: int) -> Image.Image:
    """A picture without edges, which lossy formats keep well."""
    y, x = np.mgrid[:height, :width]
    return Image.fromarray(np.stack([5 * x, 5 * y, 2 * (x + y)], -1).astype(np.uint8))


def write_classes(root: Path, counts: Mapping[str, int], suffix: str = ".png", start: int = 0) -> None:
    """Class folders with so many noise pictures each."""
    for k, (name, count) in enumerate(counts.items()):
        (root / name).mkdir(parents=True, exist_ok=True)
        for i in range(count):
            noise(start + 1000 * k + i).save(root / name / f"p{i:02d}{suffix}")


def write_further(path: Path, kind: str, image: Image.Image | None = None, **options: Any) -> Path:
    """A picture of a kind that Pillow decodes in newer versions, or by a plug-in; by default 48 × 32."""
    import pillow_heif
    import pillow_jxl  # noqa: F401  registers itself

    pillow_heif.register_heif_opener()
    names = {"HEIC": "HEIF", "AVIF": "AVIF", "JPEG XL": "JXL", "JPEG 2000": "JPEG2000"}
    if kind != "JPEG 2000":
        options.setdefault("quality", 95)
    (image or gradient(48, 32)).save(path, format=names[kind], **options)
    return path
