"""Pictures and masks in every format that is read, and in some that are not."""

from __future__ import annotations

import io
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import strategies as st
from PIL import Image, features

from cliptune.data.formats import FURTHER, decodable
from cliptune.data.images import FORMATS, decoded, read_image
from cliptune.data.masks import checked_mask, labels_of
from tests.data.pictures import noise
from tests.fuzz.campaign import MIB, REFUSED, UNKNOWN, campaign
from tests.fuzz.changes import changed_bytes

# Format → (modes, options of saving), for all that Pillow can write of what is read.
WRITTEN: dict[str, tuple[tuple[str, ...], dict[str, Any]]] = {
    "JPEG": (("RGB", "L", "CMYK"), {}),
    "PNG": (("RGB", "L", "1", "P", "RGBA", "LA", "I;16"), {}),
    "BMP": (("RGB", "L", "1", "P", "RGBA"), {}),
    "DIB": (("RGB", "L"), {}),
    "GIF": (("P", "L"), {"save_all": True, "append_images": [noise(8)]}),
    "WEBP": (("RGB", "RGBA"), {}),
    "TIFF": (("RGB", "L", "1", "P", "CMYK", "I;16", "F", "I"), {}),
    "PPM": (("RGB", "L", "1", "I;16"), {}),
    "JPEG2000": (("RGB", "L", "RGBA"), {}),
    "AVIF": (("RGB", "RGBA"), {}),
    "HEIF": (("RGB", "L", "RGBA"), {}),
    "JXL": (("RGB", "L", "RGBA"), {}),
    "MPO": (("RGB",), {"save_all": True, "append_images": [noise(8)]}),
}
LACKS = {"WEBP": "webp", "JPEG2000": "jpg_2000", "AVIF": "avif"}
LIMIT = 500_000
"""Pixels, so that thousands of cases take minutes."""
FOREIGN = ("EPS", "ICO", "TGA", "PCX", "SGI", "QOI", "DDS", "PDF")


def written(kind: str) -> list[bytes]:
    """Small pictures of a format, one of each mode; EXIF and compressed strips among them."""
    modes, options = WRITTEN.get(kind, (("RGB",), {}))
    files = []
    for i, mode in enumerate(modes):
        picture = noise(i)
        if mode == "I;16":
            picture = Image.fromarray(np.arange(391, dtype=np.uint16).reshape(17, 23) * 160)
        elif mode == "LA":
            picture = picture.convert("L").convert("LA")
        else:
            picture = picture.convert(mode)
        exif = Image.Exif()
        exif[0x0112] = 6
        extra = {"exif": exif} if kind in ("JPEG", "PNG", "WEBP") else {}
        for more in ({}, {"compression": "tiff_lzw"}) if kind == "TIFF" else ({},):
            content = io.BytesIO()
            try:
                picture.save(content, format=kind, **{**options, **extra, **more})
            except (KeyError, OSError):  # older Pillows write fewer formats and modes
                continue
            files.append(content.getvalue())
    return files


def with_checksums(content: bytes) -> bytes:
    """A PNG whose chunks have the checksums of what they hold, so that what was changed in them is looked at."""
    out, at = bytearray(content), 8
    while at + 12 <= len(out):
        length = int.from_bytes(out[at : at + 4], "big")
        end = min(at + 8 + length, len(out) - 4)
        out[end : end + 4] = zlib.crc32(out[at + 4 : end]).to_bytes(4, "big")
        at = end + 4
    return bytes(out)


@pytest.fixture(autouse=True)
def _plug_ins() -> None:
    """Those that the reader registers when it first meets their formats, for what Pillow makes of a file as well."""
    assert all(decodable(further) for further in FURTHER if further.plugin is not None)


def eight_bits(path: Path) -> Any:
    """What Pillow makes of a file on the shortest way; 16 bits value by value."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with Image.open(path) as image:
                if image.format not in FORMATS or image.width * image.height > LIMIT:
                    return REFUSED
                image.load()
                if image.mode in ("I", "F"):
                    return UNKNOWN
                if image.mode.startswith("I;16"):
                    values = [[round(int(v) / 257 + 1e-9) for v in row] for row in np.asarray(image)]
                    return image.size, np.stack([np.uint8(values)] * 3, -1).tobytes()
                return image.size, image.convert("RGB").tobytes()
        except Exception:
            return REFUSED


@pytest.mark.parametrize("kind", WRITTEN)
def test_pictures(tmp_path, kind):
    if kind in LACKS and not features.check(LACKS[kind]):
        pytest.skip(f"this Pillow has no {kind}")
    path = tmp_path / "picture.jpg"

    def read(case: bytes) -> Any:
        path.write_bytes(case)
        image = read_image(path, pixel_limit=LIMIT)
        assert image.mode == "RGB"
        read_image(path, exif=True, pixel_limit=LIMIT)
        return image.size, image.tobytes()

    cases = changed_bytes(written(kind))
    if kind == "PNG":
        cases = cases | cases.map(with_checksums)
    campaign(f"pictures: {kind}", cases, read, tmp_path, plain=lambda case: eight_bits(path), memory=2048 * MIB)


def test_pictures_of_other_formats(tmp_path):
    files = [content for kind in FOREIGN for content in written(kind)]
    cases = st.one_of(st.sampled_from(files), changed_bytes(files), st.binary(max_size=64))

    path = tmp_path / "picture.jpg"

    def read(case: bytes) -> Any:
        path.write_bytes(case)
        image = read_image(path, pixel_limit=LIMIT)
        return image.size, image.tobytes()

    campaign("pictures: other formats", cases, read, tmp_path, plain=lambda case: eight_bits(path), memory=2048 * MIB)


def test_masks(tmp_path):
    values = np.zeros((17, 23), np.uint8)
    values[3:9, 5:11] = 1
    mask = Image.fromarray(values)
    palette = Image.new("P", (23, 17))
    palette.putpalette([0, 0, 0, 200, 10, 30])
    palette.paste(1, (5, 3, 11, 9))
    files = []
    for picture, kind in ((mask, "PNG"), (palette, "PNG"), (palette, "GIF"), (mask, "BMP"), (mask, "TIFF")):
        content = io.BytesIO()
        picture.save(content, format=kind)
        files.append(content.getvalue())
    path = tmp_path / "mask.png"

    def read(case: bytes) -> Any:
        path.write_bytes(case)
        return np.asarray(
            checked_mask(decoded(path, labels_of, pixel_limit=LIMIT), f"file {path}", "picture a.jpg", (23, 17))
        ).tolist()

    def plain(case: bytes) -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                image = Image.open(path)
                if image.format not in FORMATS or image.width * image.height > LIMIT:
                    return REFUSED
                image.load()
                stored = np.asarray(image)
            except Exception:
                return REFUSED
        stored = stored if stored.ndim == 2 else stored[..., 0]
        if stored.shape != (17, 23):
            return REFUSED
        rows = [[255 if v is True or 0 < v != 255 else 0 for v in row] for row in stored.tolist()]
        return rows if len({v for row in rows for v in row}) == 2 else REFUSED

    campaign("masks", changed_bytes(files), read, tmp_path, plain=plain, memory=2048 * MIB)


def test_the_limit_of_pixels_holds_for_any_header(tmp_path):
    side = st.integers(0, 2**31 - 1) | st.integers(0, 200)
    sizes = st.tuples(side, side) | st.just((23, 17))
    seed = written("PNG")[0]
    path: Path = tmp_path / "picture.png"

    def read(case: tuple[int, int]) -> Any:
        header = b"IHDR" + case[0].to_bytes(4, "big") + case[1].to_bytes(4, "big") + seed[24:29]
        path.write_bytes(seed[:12] + header + zlib.crc32(header).to_bytes(4, "big") + seed[33:])
        return read_image(path, pixel_limit=20_000).size

    def plain(case: tuple[int, int]) -> Any:
        return case if case == (23, 17) else REFUSED if case[0] * case[1] > 20_000 else UNKNOWN

    campaign("pixels of a header", sizes, read, tmp_path, plain=plain, memory=64 * MIB)
