"""Pictures as an exported classifier takes them, with Pillow and numpy alone."""

from __future__ import annotations

import numpy as np
from PIL import Image

from cliptune.data.images import to_rgb


def pixels(image: Image.Image, side: int) -> np.ndarray:
    """A picture of any size and mode → (3, R, R) uint8: short side to R, bicubic and antialiased, centre cut out.

    The very bytes that `data.transforms.test_transform` makes before it divides them by 255.
    """
    image = to_rgb(image)
    width, height = image.size
    short, long = min(width, height), max(width, height)
    if short != side:
        whole = int(side * long / short)  # cut, not rounded, as torchvision does
        image = image.resize((side, whole) if width <= height else (whole, side), Image.Resampling.BICUBIC)
    left, top = (round((length - side) / 2.0) for length in image.size)
    return np.asarray(image.crop((left, top, left + side, top + side))).transpose(2, 0, 1)
