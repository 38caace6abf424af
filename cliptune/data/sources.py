"""Where the pictures of a split lie: in files below a root, or in memory."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from PIL import Image

from cliptune.data.images import PIXEL_LIMIT, ImageError, read_image, to_rgb

if TYPE_CHECKING:
    from torch import Tensor


class ImageSource(Protocol):
    """Pictures by row; splits that are subsets of each other share one source."""

    in_memory: bool

    def image(self, row: int) -> Image.Image: ...

    def digest(self, row: int) -> str:
        """Hex SHA-256 of the picture's content: the file's bytes, or size and pixels in memory."""
        ...


class FileSource:
    """Pictures in files.

    Args:
        root: folder that the paths are relative to.
        paths: POSIX paths relative to `root`, one per row.
        exif, pixel_limit: see `read_image`.
    """

    in_memory = False

    def __init__(
        self, root: str | Path, paths: Sequence[str], *, exif: bool = False, pixel_limit: int = PIXEL_LIMIT
    ) -> None:
        self.root = Path(root)
        self.paths = tuple(paths)
        self.exif = exif
        self.pixel_limit = pixel_limit
        self._digests: dict[tuple[str, int, int], str] = {}

    def image(self, row: int) -> Image.Image:
        return read_image(self.root / self.paths[row], exif=self.exif, pixel_limit=self.pixel_limit)

    def digest(self, row: int) -> str:
        path = self.root / self.paths[row]
        if not path.is_file():
            raise FileNotFoundError(
                f"Picture {path}: expected a file, found nothing. It was there when the data were listed; "
                "put it back or read the data again."
            )
        now = path.stat()
        known = (self.paths[row], now.st_mtime_ns, now.st_size)  # a file that was changed is read again
        if known not in self._digests:
            sha256 = hashlib.sha256()
            with path.open("rb") as file:
                while chunk := file.read(2**20):
                    sha256.update(chunk)
            self._digests[known] = sha256.hexdigest()
        return self._digests[known]


class MemorySource:
    """Pictures in memory.

    Args:
        images: (N, 3, h, w) tensor, uint8 or float in [0, 1] (rounded to 8 bits, like any picture file); or a
            sequence of Pillow images, (h, w) or (h, w, 3) uint8 arrays, and (3, h, w) tensors, sizes free.
        exif: turn Pillow images by their EXIF tag.
    """

    in_memory = True

    def __init__(self, images: Tensor | Sequence[Any], *, exif: bool = False) -> None:
        from torch import Tensor

        if isinstance(images, Tensor):
            if images.ndim != 4 or images.shape[1] != 3:
                raise ValueError(
                    f"Pictures in memory: expected a tensor (N, 3, h, w), got shape {tuple(images.shape)}. "
                    "Put the channels second; repeat grey pictures three times."
                )
            images = _as_uint8(images)
        self.images = images
        self.exif = exif

    def __len__(self) -> int:
        return len(self.images)

    def image(self, row: int) -> Image.Image:
        from torch import Tensor

        value = self.images[row]
        who = f"Picture {row} in memory"
        if isinstance(value, Image.Image):
            try:
                return to_rgb(value, exif=self.exif, who=who)
            except OSError as error:  # Pillow decodes an opened file only now
                raise ImageError(
                    f"{who} cannot be decoded: {error}. Open a whole file, or take it out of the data."
                ) from error
        if isinstance(value, Tensor):
            if value.ndim != 3 or value.shape[0] != 3:
                raise ImageError(f"{who}: expected a tensor (3, h, w), got shape {tuple(value.shape)}.")
            return Image.fromarray(_as_uint8(value).permute(1, 2, 0).contiguous().cpu().numpy())
        if (
            isinstance(value, np.ndarray)
            and value.dtype == np.uint8
            and (value.ndim == 2 or (value.ndim == 3 and value.shape[2] in (3, 4)))
        ):
            return Image.fromarray(value).convert("RGB")
        came = f"{value.dtype} array {value.shape}" if isinstance(value, np.ndarray) else type(value).__name__
        raise ImageError(
            f"{who}: expected a Pillow image, a uint8 array (h, w) or (h, w, 3), or a tensor (3, h, w), got "
            f"{came}. Convert it first."
        )

    def digest(self, row: int) -> str:
        image = self.image(row)
        return hashlib.sha256(f"{image.width}x{image.height}:".encode() + image.tobytes()).hexdigest()


def _as_uint8(images: Tensor) -> Tensor:
    import torch

    if images.dtype == torch.uint8:
        return images
    if not images.is_floating_point():
        raise ImageError(
            f"Pictures in memory: expected uint8 or floats in [0, 1], got {images.dtype}. Convert them first."
        )
    if images.numel() and not (float(images.min()) >= 0 and float(images.max()) <= 1):
        raise ImageError(
            f"Pictures in memory: floats must lie in [0, 1], got {float(images.min()):.4g} to "
            f"{float(images.max()):.4g}. Divide by 255, and do not normalise: the adapter does that."
        )
    return (images * 255).round().to(torch.uint8)
