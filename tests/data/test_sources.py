from __future__ import annotations

import hashlib

import numpy as np
import pytest
import torch
from PIL import Image

from cliptune.data.images import ImageError
from cliptune.data.sources import FileSource, MemorySource
from tests.data.pictures import noise


def tensor_of(image):
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def test_every_kind_of_picture_in_memory_gives_the_same_pixels():
    picture = noise(0)
    array, tensor = np.asarray(picture), tensor_of(picture)
    source = MemorySource([picture, array, tensor, tensor.float() / 255])
    assert {source.image(i).tobytes() for i in range(4)} == {picture.tobytes()}
    assert len({source.digest(i) for i in range(4)}) == 1
    stacked = MemorySource(torch.stack([tensor, tensor.flip(-1)]).double() / 255)
    assert stacked.images.dtype == torch.uint8
    assert stacked.image(0).tobytes() == picture.tobytes()
    assert stacked.digest(0) != stacked.digest(1)


def test_grey_and_exif_in_memory(tmp_path):
    tag = Image.Exif()
    tag[0x0112] = 3
    noise(1).save(tmp_path / "p.jpg", exif=tag)
    opened = Image.open(tmp_path / "p.jpg")
    upright = MemorySource([opened], exif=True).image(0)
    assert upright.tobytes() == opened.convert("RGB").rotate(180).tobytes()
    grey = np.arange(12, dtype=np.uint8).reshape(3, 4)
    assert np.array_equal(np.asarray(MemorySource([grey]).image(0))[..., 1], grey)


@pytest.mark.parametrize(
    ("images", "sentence"),
    [
        (torch.zeros(2, 4, 5, 3), r"expected a tensor \(N, 3, h, w\)"),
        (torch.full((1, 3, 2, 2), 1.5), r"floats must lie in \[0, 1\]"),
        (torch.full((1, 3, 2, 2), float("nan")), r"floats must lie in \[0, 1\]"),
        (torch.zeros(1, 3, 2, 2, dtype=torch.int64), "got torch.int64"),
    ],
)
def test_wrong_tensors_are_refused(images, sentence):
    with pytest.raises(ValueError, match=sentence):
        MemorySource(images)


@pytest.mark.parametrize("value", [np.zeros((2, 2), np.float32), "path.jpg", torch.zeros(2, 2)])
def test_other_values_are_refused_with_their_position(value):
    with pytest.raises(ImageError, match="Picture 1 in memory: expected"):
        MemorySource([noise(0), value]).image(1)


def test_an_opened_file_that_is_truncated_gets_a_sentence(tmp_path):
    noise(1, 64, 48).save(tmp_path / "p.jpg")
    (tmp_path / "p.jpg").write_bytes((tmp_path / "p.jpg").read_bytes()[:900])
    with pytest.raises(ImageError, match="Picture 0 in memory cannot be decoded"):
        MemorySource([Image.open(tmp_path / "p.jpg")]).image(0)


def test_digest_of_a_file_is_that_of_its_bytes(tmp_path):
    noise(0).save(tmp_path / "a.png")
    source = FileSource(tmp_path, ["a.png", "gone.png"])
    assert source.digest(0) == hashlib.sha256((tmp_path / "a.png").read_bytes()).hexdigest()
    with pytest.raises(FileNotFoundError, match=r"gone\.png: expected a file"):
        source.digest(1)
