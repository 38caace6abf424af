from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from cliptune.images import as_batch
from cliptune.preprocessing import Preprocessing


def test_sixteen_bit_pictures_are_scaled_not_cut():
    deep = np.linspace(0, 65535, 64).round().astype(np.uint16).reshape(8, 8)
    pixels = as_batch([Image.fromarray(deep)], 8)
    assert pixels.shape == (1, 3, 8, 8)
    assert torch.allclose(pixels[0, 1], torch.from_numpy(deep / 65535).float(), atol=0.5 / 255)


@pytest.mark.parametrize("resize", ["shortest", "squash", "longest"])
@pytest.mark.parametrize("size", [(61, 40), (40, 61)])
def test_tensors_are_prepared_like_pictures(size, resize):
    """But for the filters of two libraries: a smooth picture comes out alike, at the same place."""
    w, h = size
    ramp = np.stack([np.add.outer(np.arange(h), k * np.arange(w)) % 256 for k in (1, 2, 3)], -1).astype(np.uint8)
    how = Preprocessing(resize, "bilinear", oversize=18 / 16, fill=128)
    picture = as_batch([Image.fromarray(ramp)], 16, how)
    tensor = as_batch(torch.from_numpy(ramp).permute(2, 0, 1), 16, how)
    assert tensor.shape == picture.shape == (1, 3, 16, 16)
    assert (tensor - picture).abs().max() < 3 / 255


def test_a_path_in_the_place_of_a_picture_is_a_sentence():
    with pytest.raises(ValueError, match=r"PIL images or a tensor, got a str\..*read_image"):
        as_batch(["a.png"], 32)
