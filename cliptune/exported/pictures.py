"""Pictures as an exported classifier takes them, with Pillow and numpy alone."""

from __future__ import annotations

import numpy as np
from PIL import Image

from cliptune.data.images import to_rgb
from cliptune.preprocessing import Preprocessing


def pixels(image: Image.Image, side: int, how: Preprocessing = Preprocessing()) -> np.ndarray:
    """A picture of any size and mode → (3, R, R) uint8, resized with antialiasing and cropped or padded.

    The very bytes that `data.transforms.test_transform` makes before it divides them by 255.

    Args:
        side: R. how: the preprocessing; its statistics are not used.
    """
    image = to_rgb(image)
    size = _resized(image.size, how.side(side), how.resize)
    if image.size != size:
        bilinear = how.interpolation == "bilinear"
        image = image.resize(size, Image.Resampling.BILINEAR if bilinear else Image.Resampling.BICUBIC)
    across, down = (max(0, side - length) for length in image.size)
    if across or down:
        around = Image.new("RGB", (image.width + across, image.height + down), (how.fill,) * 3)
        around.paste(image, (across // 2, down // 2))
        image = around
    left, top = (round((length - side) / 2.0) for length in image.size)
    return np.asarray(image.crop((left, top, left + side, top + side))).transpose(2, 0, 1)


def _resized(size: tuple[int, int], side: int, mode: str) -> tuple[int, int]:
    """(width, height); cut where the short side is given, as torchvision does, rounded where the long one is."""
    width, height = size
    if mode == "squash":
        return side, side
    if mode == "longest":
        ratio = max(size) / side
        return max(1, round(width / ratio)), max(1, round(height / ratio))
    whole = int(side * max(size) / min(size))
    if min(size) == side:
        return size
    return (side, whole) if width <= height else (whole, side)
