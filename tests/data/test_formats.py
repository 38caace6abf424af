from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from cliptune.data import ImageError, formats, read_folder, read_image
from cliptune.data.formats import FURTHER, decodable, jpeg_xl_size, kind_of, kind_of_bytes, undecodable
from cliptune.data.images import is_image_name
from tests.data.pictures import gradient, noise, write_classes, write_further

ORIENTATION = 0x0112
# The oldest Pillow that is allowed decodes no AVIF.
KINDS = {further.kind: further.suffixes[0] for further in FURTHER if further.plugin or decodable(further)}


@pytest.fixture
def without_decoders(monkeypatch):
    """As on a machine without plug-ins, and with a Pillow that decodes none of them."""
    monkeypatch.setattr(formats, "decodable", lambda further: False)
    monkeypatch.setattr("cliptune.data.images.decodable", lambda further: False)
    monkeypatch.setattr("cliptune.data.images._of_pillow", lambda: ["JPEG", "PNG"])
    monkeypatch.setattr("cliptune.data.own.folders.decodable", lambda further: False)


@pytest.mark.parametrize(("kind", "suffix"), KINDS.items())
def test_further_formats_are_read_whatever_their_name(tmp_path, kind, suffix):
    right = write_further(tmp_path / f"a{suffix}", kind)
    wrong = right.with_name("b.jpg")
    wrong.write_bytes(right.read_bytes())
    assert is_image_name(right.name)
    for path in (right, wrong):
        assert kind_of(path) == kind
        read = np.asarray(read_image(path)).astype(int)
        assert np.abs(read - np.asarray(gradient(48, 32))).mean() < 4  # some lose a little
    assert undecodable(right) is None


@pytest.mark.parametrize(("kind", "suffix"), KINDS.items())
def test_without_a_decoder_the_sentence_has_the_kind_and_the_pip_line(tmp_path, without_decoders, kind, suffix):
    path = write_further(tmp_path / "photo.jpg", kind)
    with pytest.raises(ImageError, match=f"photo.jpg is of the kind {kind}, which cannot be decoded here") as caught:
        read_image(path)
    assert "pip install" in str(caught.value)
    assert undecodable(path) == kind


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "JPEG 2000"])
@pytest.mark.parametrize("exif", [True, False])
def test_a_turned_picture_is_turned_once(tmp_path, kind, exif):
    corner = Image.new("RGB", (48, 32))
    corner.paste((255, 255, 255), (0, 0, 24, 16))
    tag = Image.Exif()
    tag[ORIENTATION] = 6
    write_further(tmp_path / "turned", kind, corner, exif=tag.tobytes())
    read = read_image(tmp_path / "turned", exif=exif)
    turned = exif or kind == "HEIC"
    assert read.size == ((32, 48) if turned else (48, 32))
    assert min(read.getpixel((read.width - 4, 4) if turned else (4, 4))) > 200


def test_pictures_with_too_many_pixels_are_refused_before_they_are_decoded(tmp_path, monkeypatch):
    for kind, suffix in KINDS.items():
        path = write_further(tmp_path / f"large{suffix}", kind)
        with pytest.raises(ImageError, match="48 × 32 = 1,536 pixels"):
            read_image(path, pixel_limit=1000)
    import pillow_jxl.JpegXLImagePlugin as plugin

    monkeypatch.setattr(plugin, "Decoder", None)  # nothing decodes, and the limit is met nevertheless
    with pytest.raises(ImageError, match="48 × 32 = 1,536 pixels"):
        read_image(tmp_path / "large.jxl", pixel_limit=1000)


@pytest.mark.parametrize("size", [(8, 8), (64, 64), (300, 200), (256, 144), (513, 777), (3000, 17)])
@pytest.mark.parametrize("container", [False, True])
def test_jpeg_xl_size_is_the_plug_ins(tmp_path, size, container):
    path = write_further(tmp_path / "a.jxl", "JPEG XL", noise(3, *size), use_container=container)
    with Image.open(path) as image:
        assert jpeg_xl_size(path) == image.size == size


def test_jpeg_xl_without_a_size_is_refused(tmp_path):
    (tmp_path / "a.jxl").write_bytes(b"\0\0\0\x0cJXL \r\n\x87\n" + b"\0\0\0\0jxlc")
    with pytest.raises(ImageError, match="its first MiB states no size"):
        read_image(tmp_path / "a.jxl")


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (b"", "empty"),
        (b"\xff\xd8\xff\xe0\0\x10JFIF", "JPEG"),
        (b"\0\0\0\x18ftypmif1\0\0\0\0mif1avif", "AVIF"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "HEIC"),
        (b"\0\0\0\x14ftypqt  \0\0\0\0qt  ", "film"),
        (b"\0\0\0\x18ftypcrx \0\0\0\x01crx isom", "camera raw"),
        (b"RIFF\0\0\0\0WEBPVP8 ", "WebP"),
        (b"RIFF\0\0\0\0AVI LIST", "film"),
        (b"\n <!DOCTYPE html><html>", "web page"),
        (b"%PDF-1.7", "PDF"),
        (b"8BPS\0\x01", "Photoshop"),
        (b"cats and dogs", "unknown"),
    ],
)
def test_kinds_are_told_by_the_first_bytes(head, kind):
    assert kind_of_bytes(head) == kind


def test_a_raw_file_is_told_from_a_tiff_by_its_name(tmp_path):
    for name, kind in (("a.tif", "TIFF"), ("a.NEF", "camera raw")):
        (tmp_path / name).write_bytes(b"II*\0\x08\0\0\0")
        assert kind_of(tmp_path / name) == kind


def test_a_web_page_called_jpg_is_named_as_that(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"<!doctype html><title>404</title>")
    with pytest.raises(ImageError, match=r"no known picture format \(by its first bytes: web page\)"):
        read_image(tmp_path / "a.jpg")


def test_a_folder_passes_over_what_cannot_be_decoded_and_names_it(tmp_path, without_decoders):
    write_classes(tmp_path, {"cat": 4, "dog": 4})
    write_further(tmp_path / "cat" / "phone.heic", "HEIC")
    write_further(tmp_path / "dog" / "drawn.JXL", "JPEG XL")
    noise(5).save(tmp_path / "dog" / "exported.heic", format="JPEG")
    (tmp_path / "dog" / "notes.txt").write_text("mine")
    (tmp_path / "dog" / "Thumbs.db").write_text("of Windows")
    data = read_folder(tmp_path)
    assert sum(len(data[split]) for split in ("train", "val", "test")) == 9  # a JPEG called .heic is read
    heic, jxl, other = data.notes[:3]
    assert "1 picture of the kind HEIC was passed over, since nothing here decodes this kind: cat/phone.heic" in heic
    assert "pillow-heif: pip install 'cliptune[formats]'" in heic
    assert "drawn.JXL" in jxl
    assert "pip install 'cliptune[formats]'" in jxl
    assert "2 files without a picture's suffix were passed over: 1 .db, 1 .txt." in other
    assert data.unread == ("cat/phone.heic", "dog/drawn.JXL", "dog/notes.txt")


def test_a_class_of_pictures_that_cannot_be_decoded_is_refused_with_the_pip_line(tmp_path, without_decoders):
    write_classes(tmp_path, {"cat": 4, "dog": 0})
    write_further(tmp_path / "dog" / "phone.heic", "HEIC")
    with pytest.raises(ValueError, match=r"1 class folders hold no picture: dog.*dog/phone.heic.*pip install"):
        read_folder(tmp_path)


def test_a_folder_of_further_formats_is_read_like_any_other(tmp_path):
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        for kind, suffix in KINDS.items():
            write_further(tmp_path / name / f"a{suffix}", kind)
    data = read_folder(tmp_path)
    assert sum(len(data[split]) for split in ("train", "val", "test")) == 2 * len(KINDS)
    assert not data.unread
    assert not data.train.unreadable()
