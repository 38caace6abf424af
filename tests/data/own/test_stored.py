from __future__ import annotations

import hashlib
import io

import numpy as np
import pytest

from cliptune.data.images import ImageError, read_image
from cliptune.data.own.stored import Piece, Pixels, StoredSource, decoded_bytes
from tests.data.pictures import noise


def encoded(kind: str, **options) -> bytes:
    file = io.BytesIO()
    noise(1).save(file, kind, **options)
    return file.getvalue()


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "CMYK", "RGBA", "1", "I;16"])
@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_bytes_are_decoded_as_files_are(tmp_path, mode, kind):
    if (mode, kind) == ("CMYK", "PNG"):
        pytest.skip("PNG has no CMYK")
    image = noise(1).convert("L").convert("I").convert("I;16") if mode == "I;16" else noise(1).convert(mode)
    path = tmp_path / f"a.{kind.lower()}"
    image.save(path)
    assert decoded_bytes(path.read_bytes(), exif=False, who="x").tobytes() == read_image(path).tobytes()


def test_exif_turns_where_it_is_asked_for():
    from PIL import Image

    exif = Image.Exif()
    exif[274] = 6
    content = encoded("JPEG", exif=exif)
    assert decoded_bytes(content, exif=True, who="x").size == (17, 23)
    assert decoded_bytes(content, exif=False, who="x").size == (23, 17)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", r"is empty \(0 bytes\)"),
        (b"no picture", "no known picture format"),
        (encoded("PNG")[:80], "cannot be decoded"),
        (encoded("TGA"), "of the format TGA"),
        (encoded("PPM").replace(b"23 17", b"99999 99999"), "exceeds limit of 178956970 pixels"),
    ],
)
def test_broken_bytes_get_a_sentence(content, sentence):
    with pytest.raises(ImageError, match=f"Picture 3.*{sentence}"):
        decoded_bytes(content, exif=False, who="Picture 3")


def test_pieces_of_a_file(tmp_path):
    content = encoded("PNG")
    (tmp_path / "all").write_bytes(b"before" + content + b"after")
    piece = Piece(tmp_path / "all", "a.png", 6, len(content))
    source = StoredSource([piece])
    assert source.image(0).tobytes() == noise(1).tobytes()
    assert source.digest(0) == hashlib.sha256(content).hexdigest()
    assert not source.in_memory
    with pytest.raises(ImageError, match=r"a\.png in .*: the file ends within it"):
        Piece(tmp_path / "all", "a.png", 6, 10_000).content()
    with pytest.raises(ImageError, match="at most"):
        Piece(tmp_path / "all", "a.png", 6, 1 << 40).content()


def test_rows_of_an_array():
    array = np.arange(2 * 3 * 5, dtype=np.uint8).reshape(2, 3, 5)
    source = StoredSource([Pixels(array, 0), Pixels(array, 1)])
    assert source.in_memory
    assert (np.asarray(source.image(1)) == array[1][:, :, None]).all()
    assert source.digest(0) != source.digest(1)
