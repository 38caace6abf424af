from __future__ import annotations

import pickle
import struct
import warnings

import numpy as np
import pytest
from PIL import Image, ImageFile

from cliptune.data.cache import ImageCache
from cliptune.data.images import ImageError, is_image_name, read_image, to_rgb
from cliptune.data.items import Item, Split
from tests.data.pictures import noise

ORIENTATION = 0x0112


def pixels(image):
    return np.asarray(image).tolist()


@pytest.mark.parametrize(
    ("mode", "suffix"),
    [
        ("RGB", "png"),
        ("RGB", "jpg"),
        ("L", "png"),
        ("L", "jpg"),
        ("1", "png"),
        ("P", "png"),
        ("P", "gif"),
        ("CMYK", "jpg"),
        ("CMYK", "tif"),
        ("YCbCr", "jpg"),
        ("RGBA", "png"),
        ("LA", "png"),
        ("RGB", "webp"),
        ("RGB", "bmp"),
    ],
)
def test_every_mode_is_read_with_pillows_default_conversion(tmp_path, mode, suffix):
    source = noise(1) if mode != "LA" else noise(1).convert("L")
    path = tmp_path / f"picture.{suffix}"
    source.convert(mode).save(path)
    image = read_image(path)
    assert (image.mode, image.size) == ("RGB", (23, 17))
    assert pixels(image) == pixels(Image.open(path).convert("RGB"))


def test_alpha_is_dropped_not_blended(tmp_path):
    colours = np.asarray(noise(3))
    alpha = np.arange(colours.shape[0] * colours.shape[1], dtype=np.uint8).reshape(colours.shape[:2])
    Image.fromarray(np.dstack([colours, alpha])).save(tmp_path / "a.png")
    assert np.array_equal(np.asarray(read_image(tmp_path / "a.png")), colours)


def test_lab_becomes_the_colours_that_it_stands_for(tmp_path):
    """By the CIE's formulas for the white D50, written out; 8-bit LAB is coarse, so that 4 levels are near."""
    y, x = np.mgrid[:16, :16]
    lab = np.stack([100 + 5 * y, 128 + 2 * (x - 8), 128 - 2 * (y - 8)], -1).astype(np.float64)
    stored = lab.astype(np.uint8)
    stored[..., 1:] = (lab[..., 1:] - 128).astype(np.int8).view(np.uint8)  # a and b are signed in a TIFF
    Image.frombytes("LAB", (16, 16), stored.tobytes()).save(tmp_path / "lab.tif")
    lightness, a, b = lab[..., 0] * 100 / 255, lab[..., 1] - 128, lab[..., 2] - 128
    fy = (lightness + 16) / 116
    f = np.stack([fy + a / 500, fy, fy - b / 200], -1)
    xyz = np.where(f > 6 / 29, f**3, 3 * (6 / 29) ** 2 * (f - 4 / 29)) * (0.9642, 1.0, 0.8249)
    to_linear = np.array([[3.1339, -1.6169, -0.4906], [-0.9788, 1.9161, 0.0335], [0.0719, -0.2290, 1.4052]])
    linear = np.clip(xyz @ to_linear.T, 0, 1)
    srgb = 255 * np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    found = np.asarray(read_image(tmp_path / "lab.tif")).astype(np.float64)
    assert np.abs(found - srgb).max() < 4


def test_transparent_palette_is_read_without_a_warning(tmp_path):
    palette = noise(2).quantize(16)
    palette.save(tmp_path / "t.png", transparency=bytes(range(16)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        image = read_image(tmp_path / "t.png")
    assert pixels(image) == pixels(palette.convert("RGB"))


@pytest.mark.parametrize("kind", ["EPS", "TGA", "PCX"])
def test_other_formats_are_refused_before_they_are_decoded(tmp_path, kind):
    noise(1).save(tmp_path / "picture.jpg", format=kind)
    with pytest.raises(ImageError, match=f"of the format {kind}, which is not read; expected one of AVIF"):
        read_image(tmp_path / "picture.jpg")


def test_a_broken_exif_block_leaves_the_picture_as_it_is_stored(tmp_path):
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    noise(1).save(tmp_path / "whole.jpg", exif=exif)
    content = (tmp_path / "whole.jpg").read_bytes()
    at = content.index(b"Exif\0\0") + 6
    (tmp_path / "broken.jpg").write_bytes(content[:at] + b"XX" + content[at + 2 :])
    assert read_image(tmp_path / "whole.jpg", exif=True).size == (17, 23)
    assert read_image(tmp_path / "broken.jpg", exif=True).size == (23, 17)


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_sixteen_bits_are_scaled_not_cut(tmp_path, suffix):
    values = np.linspace(0, 65535, 12 * 9).round().astype(np.uint16).reshape(9, 12)
    Image.fromarray(values).save(tmp_path / f"deep.{suffix}")
    image = np.asarray(read_image(tmp_path / f"deep.{suffix}"))
    assert np.array_equal(image[..., 0], np.round(values / 257).astype(np.uint8))
    assert np.array_equal(image[..., 0], image[..., 2])


def test_big_endian_sixteen_bits_are_scaled(tmp_path):
    values = np.array([[0, 257, 65535], [256 * 128, 1, 300]], dtype=">u2")
    (tmp_path / "deep.pgm").write_bytes(b"P5\n3 2\n65535\n" + values.tobytes())
    image = np.asarray(read_image(tmp_path / "deep.pgm"))
    assert np.array_equal(image[..., 0], np.round(values / 257.0).astype(np.uint8))


def test_exif_rotation_is_followed_only_when_asked(tmp_path):
    tag = Image.Exif()
    tag[ORIENTATION] = 6  # lies on its side: turn by 90 degrees clockwise
    noise(3).save(tmp_path / "side.jpg", exif=tag)
    plain, turned = read_image(tmp_path / "side.jpg"), read_image(tmp_path / "side.jpg", exif=True)
    assert plain.size == (23, 17)
    assert pixels(plain) == pixels(Image.open(tmp_path / "side.jpg").convert("RGB"))
    assert pixels(turned) == pixels(plain.transpose(Image.Transpose.ROTATE_270))


def test_truncated_files_are_refused(tmp_path):
    for suffix in ("jpg", "png"):
        noise(4, 64, 48).save(tmp_path / f"whole.{suffix}")
        content = (tmp_path / f"whole.{suffix}").read_bytes()
        (tmp_path / f"half.{suffix}").write_bytes(content[: len(content) // 2])
        with pytest.raises(ImageError, match=rf"half\.{suffix} cannot be decoded: .*copy it again"):
            read_image(tmp_path / f"half.{suffix}")
    assert ImageFile.LOAD_TRUNCATED_IMAGES is False


def test_empty_foreign_and_missing_files_are_refused(tmp_path):
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.jpg").write_text("no picture at all")
    with pytest.raises(ImageError, match=r"empty\.png is empty \(0 bytes\)"):
        read_image(tmp_path / "empty.png")
    with pytest.raises(ImageError, match="content is no known picture format"):
        read_image(tmp_path / "text.jpg")
    with pytest.raises(FileNotFoundError, match="found nothing"):
        read_image(tmp_path / "absent.jpg")
    with pytest.raises(FileNotFoundError, match="found a folder"):
        read_image(tmp_path)


def test_more_pixels_than_the_limit_are_not_decoded(tmp_path):
    noise(5).save(tmp_path / "large.png")
    with pytest.raises(ImageError, match="23 × 17 = 391 pixels; at most 390 are decoded"):
        read_image(tmp_path / "large.png", pixel_limit=390)
    assert read_image(tmp_path / "large.png", pixel_limit=391).size == (23, 17)


def test_a_decompression_bomb_is_refused(tmp_path):
    noise(5).save(tmp_path / "bomb.bmp")
    content = bytearray((tmp_path / "bomb.bmp").read_bytes())
    content[18:26] = struct.pack("<ii", 60000, 60000)
    (tmp_path / "bomb.bmp").write_bytes(content)
    with pytest.raises(ImageError, match="small file cannot fill the memory"):
        read_image(tmp_path / "bomb.bmp")


def test_values_without_a_white_are_refused():
    with pytest.raises(ImageError, match="floating-point"):
        to_rgb(Image.fromarray(np.ones((2, 2), np.float32)))
    with pytest.raises(ImageError, match="32-bit values from -4 to 70000"):
        to_rgb(Image.fromarray(np.array([[-4, 70000]], np.int32)))


def test_converting_leaves_the_given_image_alone():
    palette = noise(6).quantize(8)
    palette.info["transparency"] = 3
    rgb, source = to_rgb(palette), noise(6)
    assert (palette.mode, palette.info["transparency"], rgb.mode) == ("P", 3, "RGB")
    to_rgb(source).putpixel((0, 0), (1, 2, 3))
    assert pixels(source) == pixels(noise(6))


@pytest.mark.parametrize(
    ("name", "expected"),
    [("a.JPG", True), ("b.jpeg", True), ("._b.jpg", False), (".DS_Store", False), ("c.txt", False)],
)
def test_picture_names(name, expected):
    assert is_image_name(name) is expected


def files(tmp_path, n=4):
    for i in range(n):
        noise(i).save(tmp_path / f"{i}.png")
    return Split.of_files(tmp_path, [Item(f"{i}.png", 0, "thing") for i in range(n)])


def test_cache_decodes_once_and_keeps_exact_pixels(tmp_path, monkeypatch):
    split, cache = files(tmp_path), ImageCache()
    decoded = []
    monkeypatch.setattr(
        "cliptune.data.sources.read_image", lambda path, **_: (decoded.append(path.name), read_image(path))[1]
    )
    for _ in range(3):
        for i in range(4):
            assert pixels(cache.image(split, i)) == pixels(noise(i))
    assert pixels(cache.image(split.subset([2, 1]), 0)) == pixels(noise(2))
    assert decoded == ["0.png", "1.png", "2.png", "3.png"]
    assert cache.bytes == 4 * 3 * 23 * 17
    cache.image(split, 0).putpixel((0, 0), (0, 0, 0))
    assert pixels(cache.image(split, 0)) == pixels(noise(0))


def test_cache_stays_below_its_limit_and_is_filled_with_threads(tmp_path):
    split, cache = files(tmp_path), ImageCache(limit_bytes=2 * 3 * 23 * 17 + 5)
    cache.fill(split, threads=2)
    assert (len(cache), cache.full) == (2, True)
    assert all(pixels(cache.image(split, i)) == pixels(noise(i)) for i in range(4))
    assert cache.bytes <= cache.limit_bytes
    assert len(pickle.loads(pickle.dumps(cache))) == 0
    with pytest.raises(ValueError, match="0 or more"):
        ImageCache(-1)
