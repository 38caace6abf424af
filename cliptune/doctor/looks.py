"""How a picture looks, as a few bits: whole, and cut at its sides, so that a copy without its borders is known."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable

import numpy as np
from PIL import Image

Hash = Callable[[Image.Image], int]

NEAR = 6
"""Bits of 64 in which the hashes of two pictures that look alike may differ."""
STRICTER = 2
"""Bits less in which a picture may differ from the cuts of another, each of which is a further chance to be alike."""
MOST_CUT = 200_000
"""Pictures up to which each is compared with all others' cuts, the work of which grows with the square."""
INSTALL = "pip install 'cliptune[doctor]'"

_SHARES = (0.025, 0.05, 0.075, 0.1, 0.125)
"""Of a side's length. Hashes bear half a step, so whatever lies between is found as well."""
_SIDES = (
    *((1, 1, 1, 1), (1, 0, 1, 0), (0, 1, 0, 1)),
    *((1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1)),
)
"""Left, top, right, bottom: all of them, two opposite ones, or one."""
CUTS = tuple(tuple(share * side for side in sides) for sides in _SIDES for share in _SHARES)
"""What is cut off, in shares of width and height."""
_SMALL = 128
"""Pixels of the longer side from which cuts are made; a hash looks at 32."""


def perceptual() -> Hash | None:
    """Perceptual hash of 64 bits by imagehash, of the lowest frequencies of the cosine transform; None without it.

    Pictures of one hash differ in size, compression or brightness, seldom in what they show.
    """
    if importlib.util.find_spec("imagehash") is None:
        return None
    import imagehash

    return lambda image: int(str(imagehash.phash(image)), 16)


def cuts_of(image: Image.Image, hashed: Hash) -> np.ndarray:
    """Hashes of the picture without its borders, (len(CUTS),) uint64."""
    small = image.convert("L")
    small.thumbnail((_SMALL, _SMALL), Image.Resampling.BICUBIC)
    width, height = small.size
    boxes = (
        (round(left * width), round(top * height), width - round(right * width), height - round(bottom * height))
        for left, top, right, bottom in CUTS
    )
    return np.array([hashed(small.crop(box)) for box in boxes], dtype=np.uint64)


def cuts_are_compared(near: int, pictures: int) -> bool:
    """Whether so many pictures are looked through for cut copies, where look-alikes may differ in `near` bits."""
    return near >= STRICTER and pictures <= MOST_CUT
