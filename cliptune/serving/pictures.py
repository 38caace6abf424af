"""Pictures in the body of a request: bytes from a stranger become prepared pixels, or a sentence."""

from __future__ import annotations

import base64
import binascii
import io

import numpy as np
from PIL import Image

from cliptune.data.images import FORMATS, ImageError, to_rgb
from cliptune.exported.pictures import pixels
from cliptune.reading import shown

Image.init()
# Only their parsers see the bytes. MPO has none: it is a JPEG of several pictures.
_READ = sorted(FORMATS & Image.OPEN.keys() - {"MPO"})


def prepared(content: bytes, side: int, most_pixels: int, who: str) -> np.ndarray:
    """A picture's bytes → (3, R, R) uint8, turned as its EXIF tag says.

    Args:
        most_pixels: width × height that is decoded. who: begins the errors.
    Raises: ImageError with a sentence for whatever is no such picture.
    """
    if not content:
        raise ImageError(f"{who} is empty (0 bytes).")
    try:
        with Image.open(io.BytesIO(content), formats=_READ) as image:
            width, height = image.size
            if width * height > most_pixels:
                raise ImageError(
                    f"{who} has {width} × {height} = {width * height:,} pixels; at most {most_pixels:,} are decoded. "
                    "Send a smaller version."
                )
            if max(width, height) > 200 * min(width, height):
                raise ImageError(f"{who} is {width} × {height} pixels, too long and narrow. Send a part of it.")
            return pixels(to_rgb(image, exif=True, who=who), side)
    except ImageError:
        raise
    except Image.UnidentifiedImageError as error:
        raise ImageError(
            f"{who} is no picture that is read here; expected one of {', '.join(sorted(FORMATS))}."
        ) from error
    except Exception as error:  # decoders meet broken bytes with almost any exception
        raise ImageError(f"{who} cannot be decoded ({shown(str(error) or type(error).__name__)}).") from error


def from_base64(text: object, who: str) -> bytes:
    """The bytes that a text in base64 stands for, with or without `data:…,` before it. Raises: ImageError."""
    if not isinstance(text, str):
        raise ImageError(f"{who} must be a text in base64, got {type(text).__name__}.")
    if text.startswith("data:"):
        text = text.partition(",")[2]
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise ImageError(f"{who} is no base64 ({shown(str(error))}).") from error
