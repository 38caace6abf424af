"""Reading pictures: every odd file becomes RGB pixels or a sentence."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from cliptune.data.formats import BY_KIND, BY_SUFFIX, decodable, how_to_read, jpeg_xl_size, kind_of
from cliptune.reading import shown

T = TypeVar("T")

SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jfif", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm", *BY_SUFFIX}
)

FORMATS = frozenset(
    {"JPEG", "MPO", "PNG", "BMP", "DIB", "GIF", "WEBP", "TIFF", "PPM", "AVIF", "JPEG2000", "HEIF", "JXL"}
)
"""What a file may hold, whatever its suffix, by Pillow's names. Pillow knows thirty more formats: for some it starts a
program (EPS), for others it decodes byte by byte in Python, so that a small file could keep it busy for minutes."""

PIXEL_LIMIT = 178_956_970
"""Most pixels (width × height) a picture may have: the size from which Pillow itself refuses to decode."""


class ImageError(ValueError):
    """A picture that cannot be read; the message is a sentence that names it."""


def is_image_name(name: str) -> bool:
    """Whether a file name looks like a picture: a known suffix, and not a hidden or side-car file
    (`._a.jpg`).
    """
    return not name.startswith(".") and Path(name).suffix.lower() in SUFFIXES


def read_image(path: str | Path, *, exif: bool = False, pixel_limit: int = PIXEL_LIMIT) -> Image.Image:
    """The picture in a file as 8-bit RGB; of several frames the first.

    Args:
        path: the file.
        exif: turn the picture the way its EXIF tag says. Cameras store photographs lying on their side and
            note the rotation in a tag, so a user's own photographs should be turned (True). The field's
            published
            numbers were all made without it: with True the pixels of Food-101 and Oxford Pets change, so the
            readers of published data sets leave it False.
        pixel_limit: largest width × height that is decoded.

    Grey, palette, CMYK and RGBA pictures are converted by Pillow's defaults as in the field's code: no colour
    profile is applied and an alpha channel is dropped, not blended. 16-bit grey is scaled (value / 257), not
    cut at 255.

    HEIC, AVIF, JPEG XL and JPEG 2000 are read where Pillow or an installed plug-in (extra `formats`) decodes them.
    HEIC comes upright in any case, because its own marks for turning belong to decoding.

    Raises: FileNotFoundError if there is no such file; ImageError if it is empty, truncated, not of `FORMATS`, of a
        kind whose decoder is not installed (the sentence names the line that brings it), has more pixels than the
        limit, or a pixel format without a meaning as RGB (32-bit, floating point).
    """
    return decoded(path, lambda image: to_rgb(image, exif=exif, who=f"Picture {path}"), pixel_limit=pixel_limit)


def decoded(path: str | Path, convert: Callable[[Image.Image], T], *, pixel_limit: int = PIXEL_LIMIT) -> T:
    """What `convert` makes of the picture in a file, with the errors of `read_image`."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"Picture {path}: expected a file, found {'a folder' if path.is_dir() else 'nothing'}. "
            "Check the path, or take the entry out of the list."
        )
    if path.stat().st_size == 0:
        raise ImageError(f"Picture {path} is empty (0 bytes). Copy it again, or take it out of the data.")
    try:
        with _opened(path, pixel_limit) as image:
            if image.format not in FORMATS:
                raise ImageError(
                    f"Picture {path} is of the format {image.format}, which is not read; expected one of "
                    f"{', '.join(sorted(FORMATS))}. Save it as PNG or JPEG."
                )
            _check_pixels(image.size, path, pixel_limit)
            return convert(image)
    except ImageError:
        raise
    except Image.DecompressionBombError as error:
        raise ImageError(_too_large(path, "more pixels than Pillow decodes", pixel_limit)) from error
    except PermissionError as error:
        raise PermissionError(
            f"Picture {path} may not be read. Change the file's permissions, or take it out of the data."
        ) from error
    except Exception as error:  # decoders meet broken bytes with almost any exception
        raise ImageError(
            f"Picture {path} cannot be decoded: expected a whole "
            f"{path.suffix.lstrip('.').upper() or 'picture'} file, but {_reason(error, path)}. It may be truncated "
            "or not a picture: copy it again, or take it out of the data."
        ) from error


def _opened(path: Path, pixel_limit: int) -> Image.Image:
    """Pillow's image of a file. Decoders beside Pillow's own are asked for the kinds of `BY_KIND` alone, which the
    content tells whatever the name says.
    """
    try:
        return Image.open(path, formats=_of_pillow())
    except UnidentifiedImageError:
        kind = kind_of(path)
    if kind not in BY_KIND:
        return Image.open(path)
    if not decodable(BY_KIND[kind]):
        raise ImageError(f"Picture {path} is of the kind {kind}, which cannot be decoded here. {how_to_read(kind)}")
    if kind == "JPEG XL":  # which the plug-in decodes while it opens the file
        _check_pixels(jpeg_xl_size(path), path, pixel_limit)
    return Image.open(path, formats=[BY_KIND[kind].pillow])


@lru_cache(maxsize=1)
def _of_pillow() -> list[str]:
    Image.init()
    further = {known.pillow for known in BY_KIND.values() if known.plugin is not None}
    return [name for name in Image.OPEN if name in FORMATS - further]


def to_rgb(image: Image.Image, *, exif: bool = False, who: str = "Picture") -> Image.Image:
    """A Pillow image of any mode as a new 8-bit RGB image, by the rules of `read_image`; `who` begins the
    errors.
    """
    image.load()
    if exif:
        image = _turned(image)
    if image.mode.startswith("I;16"):
        return Image.fromarray(_eight_bits(np.asarray(image).astype(np.uint32))).convert("RGB")
    if image.mode == "I":
        values = np.asarray(image)
        if values.min() < 0 or values.max() > 65535:
            raise ImageError(
                f"{who} has 32-bit values from {values.min()} to {values.max()}; expected at most 16 bits "
                "(0 to 65535). Save it with 8 or 16 bits."
            )
        return Image.fromarray(_eight_bits(values.astype(np.uint32))).convert("RGB")
    if image.mode == "F":
        raise ImageError(f"{who} has floating-point values, whose white is unknown. Save it with 8 or 16 bits.")
    if "transparency" in image.info:
        image = image.copy()
        del image.info["transparency"]  # Pillow would only warn that RGB cannot hold it
    return image.convert("RGB") if image.mode != "RGB" else image.copy()


def _turned(image: Image.Image) -> Image.Image:
    """Turned as its EXIF tag says; as it is stored where the EXIF block is broken, for the pixels are whole."""
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # the block is parsed here, and fails in as many ways as it has fields
        return image


def _eight_bits(values: np.ndarray) -> np.ndarray:
    return ((values * 255 + 32767) // 65535).astype(np.uint8)


def _check_pixels(size: tuple[int, int], path: Path, limit: int) -> None:
    width, height = size
    if width * height > limit:
        raise ImageError(_too_large(path, f"{width} × {height} = {width * height:,} pixels", limit))


def _too_large(path: Path, came: str, limit: int) -> str:
    return (
        f"Picture {path} has {came}; at most {limit:,} are decoded, so that a small file cannot fill the "
        "memory. Save a smaller version, or take it out of the data."
    )


def _reason(error: Exception, path: Path) -> str:
    if isinstance(error, UnidentifiedImageError):
        kind = kind_of(path)
        told = "" if kind == "unknown" else f" (by its first bytes: {kind})"
        return f"its content is no known picture format{told}"
    return f"the decoder said: {shown(str(error), 200).rstrip('.') or type(error).__name__}"
