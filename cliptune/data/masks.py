"""Where the object is in a picture: mask files beside the pictures, or the exact masks of drawn ones."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import numpy as np
from PIL import Image

from cliptune.data.images import ImageError, decoded
from cliptune.data.items import Split
from cliptune.data.tinyworld.suites import masks_of

EXACT = "exact"
SUFFIXES = (".png", ".bmp", ".tif", ".tiff", ".gif")
"""Formats that keep pixel values as they are; a mask of the wrong value is another mask."""

IGNORED = 255


class Masks(Protocol):
    """Foreground masks of the pictures of a split."""

    def check(self, split: Split) -> None:
        """Raises: FileNotFoundError or ValueError, before the first picture is read, if masks cannot be had."""
        ...

    def mask(self, split: Split, i: int, size: tuple[int, int]) -> Image.Image:
        """Of picture i, whose (width, height) is `size`: mode "L", 255 on the foreground, 0 elsewhere; both occur."""
        ...


def open_masks(source: str) -> Masks:
    """Masks by name: "exact", or the folder of mask files."""
    return ExactMasks() if source == EXACT else MaskFolder(source)


class MaskFolder:
    """Mask files under a folder, found by the relative path of their picture: `cats/1.jpg` has its mask in
    `cats/1.png`, or `cats/1.jpg.png` where two pictures share a stem.

    Read as in DAPT (arXiv:2508.00395): first channel, 255 (ignore) is background, other values above 0 foreground.
    Raises: FileNotFoundError if there is no such folder.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder).expanduser()
        if not self.folder.is_dir():
            raise FileNotFoundError(
                f"Masks: there is no folder {self.folder}. Give the folder that holds the mask files, or 'exact' for "
                "Tinyworld."
            )

    def check(self, split: Split) -> None:
        for i in range(len(split)):
            self.path(split, i)

    def path(self, split: Split, i: int) -> Path:
        """Of the mask of picture i. Raises: FileNotFoundError."""
        picture = split[i].path
        stem = self.folder / picture
        for path in (self.folder / f"{picture}.png", *(stem.with_suffix(suffix) for suffix in SUFFIXES)):
            if path.is_file():
                return path
        raise FileNotFoundError(
            f"Masks: picture {picture} has no mask in {self.folder}; expected {stem.with_suffix('.png')}. "
            "Add the mask, or take the picture out of the data."
        )

    def mask(self, split: Split, i: int, size: tuple[int, int]) -> Image.Image:
        path = self.path(split, i)
        return checked_mask(decoded(path, labels_of), f"file {path}", f"picture {split[i].path}", size)


class ExactMasks:
    """The masks that Tinyworld knows of the pictures it draws, in every domain."""

    def check(self, split: Split) -> None:
        masks_of(split, [])

    def mask(self, split: Split, i: int, size: tuple[int, int]) -> Image.Image:
        picture = split[i].path
        return checked_mask(masks_of(split, [i])[0].numpy(), f"exact mask of {picture}", f"picture {picture}", size)


def labels_of(image: Image.Image) -> np.ndarray:
    """First channel (h, w) of a mask file as it is stored: of a palette image the numbers, not the colours."""
    image.load()
    values = np.asarray(image)
    return values if values.ndim == 2 else values[..., 0]


def checked_mask(values: np.ndarray, mask: str, picture: str, size: tuple[int, int]) -> Image.Image:
    """Stored values (h, w) as a mask of mode "L".

    Args:
        values: bool, or integers: 0 background, 255 ignored, others foreground.
        mask, picture: what errors call them.
        size: (width, height) of the picture.
    Raises: ValueError for another size, or a mask without foreground or without background.
    """
    height, width = values.shape
    if (width, height) != size:
        raise ImageError(
            f"Masks: {mask} has {width} × {height} pixels, but {picture} has {size[0]} × {size[1]}. A mask must have "
            "the size of its picture as it is read: make it anew, or resize it with nearest interpolation."
        )
    foreground = (values > 0) & ((values != IGNORED) | (values.dtype == bool))
    if not foreground.any():
        ignored = bool((values == IGNORED).any()) and values.dtype != bool
        raise ImageError(
            f"Masks: {mask} marks no foreground"
            + (" (255 means 'ignore', not 'object'). Write 1 where the object is." if ignored else ".")
            + " A mask of nothing teaches nothing: mark the object, take the picture out of the data, or use Grad-CAM."
        )
    if foreground.all():
        raise ImageError(
            f"Masks: {mask} marks everything as foreground, so that {picture} has no background. Mark the object "
            "alone, take the picture out of the data, or use Grad-CAM."
        )
    return Image.fromarray(foreground.astype(np.uint8) * 255)
