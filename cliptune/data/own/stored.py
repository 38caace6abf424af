"""Pictures that lie within a file of many: an archive, a table, an array."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from PIL import Image

from cliptune.data.images import FORMATS, PIXEL_LIMIT, ImageError, to_rgb
from cliptune.reading import LARGEST, shown


class StoredPicture(Protocol):
    """One picture in a file of many; it can be sent to another process."""

    in_memory: bool

    def image(self, *, exif: bool) -> Image.Image:
        """8-bit RGB, as `read_image` reads a file."""
        ...

    def digest(self) -> str:
        """Hex SHA-256 of the content."""
        ...


class StoredSource:
    """Pictures of a split that lie within files of many.

    Args:
        pictures: one per row.
        exif: turn pictures as their EXIF tag says.
    """

    def __init__(self, pictures: Sequence[StoredPicture], *, exif: bool = False) -> None:
        self.pictures = tuple(pictures)
        self.exif = exif
        self.in_memory = any(picture.in_memory for picture in self.pictures)

    def image(self, row: int) -> Image.Image:
        return self.pictures[row].image(exif=self.exif)

    def digest(self, row: int) -> str:
        return self.pictures[row].digest()


class Encoded:
    """A picture whose encoded bytes, a PNG or JPEG file as a whole, lie within another file."""

    in_memory = False

    @property
    def who(self) -> str:
        """What sentences call it."""
        raise NotImplementedError

    def content(self) -> bytes:
        """The encoded bytes. Raises: ImageError, OSError."""
        raise NotImplementedError

    def image(self, *, exif: bool) -> Image.Image:
        return decoded_bytes(self.content(), exif=exif, who=self.who)

    def digest(self) -> str:
        return hashlib.sha256(self.content()).hexdigest()


@dataclass(frozen=True)
class Piece(Encoded):
    """Bytes of a file from `offset`, `size` of them.

    Args:
        file: that holds it. name: of the picture in there.
    """

    file: Path
    name: str
    offset: int
    size: int

    @property
    def who(self) -> str:
        return f"Picture {shown(self.name)} in {self.file}"

    def content(self) -> bytes:
        if self.size > LARGEST:
            raise ImageError(f"{self.who} has {self.size:,} bytes, and at most {LARGEST:,} are read. Save it smaller.")
        with self.file.open("rb") as file:
            file.seek(self.offset)
            content = file.read(self.size)
        if len(content) < self.size:
            raise ImageError(f"{self.who}: the file ends within it. Copy the file again.")
        return content


@dataclass(frozen=True)
class Pixels:
    """Row `i` of an array (N, h, w) or (N, h, w, 3) of 8-bit values."""

    array: np.ndarray
    i: int

    in_memory = True

    def image(self, *, exif: bool) -> Image.Image:
        return Image.fromarray(self.array[self.i]).convert("RGB")

    def digest(self) -> str:
        pixels = self.array[self.i]
        return hashlib.sha256(f"{pixels.shape}:".encode() + pixels.tobytes()).hexdigest()


def decoded_bytes(content: bytes, *, exif: bool, who: str) -> Image.Image:
    """The picture in these bytes as 8-bit RGB, by the rules and with the errors of `read_image`.

    Args:
        who: what the errors call it.
    """
    if not content:
        raise ImageError(f"{who} is empty (0 bytes). Write it again, or take it out of the data.")
    try:
        with Image.open(io.BytesIO(content)) as image:
            if image.format not in FORMATS:
                raise ImageError(
                    f"{who} is of the format {image.format}, which is not read; expected one of "
                    f"{', '.join(sorted(FORMATS))}. Save it as PNG or JPEG."
                )
            if image.width * image.height > PIXEL_LIMIT:
                raise ImageError(
                    f"{who} has {image.width} × {image.height} pixels; at most {PIXEL_LIMIT:,} are decoded, so that a "
                    "small file cannot fill the memory. Save a smaller version, or take it out of the data."
                )
            return to_rgb(image, exif=exif, who=who)
    except ImageError:
        raise
    except Exception as error:  # decoders meet broken bytes with almost any exception
        reason = str(error).rstrip(".") or type(error).__name__
        if isinstance(error, Image.UnidentifiedImageError):
            reason = "its content is no known picture format"
        raise ImageError(
            f"{who} cannot be decoded: {shown(reason, 200)}. Write it again, or take it out of the data."
        ) from error
