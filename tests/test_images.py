from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from cliptune.images import as_batch


def test_sixteen_bit_pictures_are_scaled_not_cut():
    deep = np.linspace(0, 65535, 64).round().astype(np.uint16).reshape(8, 8)
    pixels = as_batch([Image.fromarray(deep)], 8)
    assert pixels.shape == (1, 3, 8, 8)
    assert torch.allclose(pixels[0, 1], torch.from_numpy(deep / 65535).float(), atol=0.5 / 255)


def test_a_path_in_the_place_of_a_picture_is_a_sentence():
    with pytest.raises(ValueError, match=r"PIL images or a tensor, got a str\..*read_image"):
        as_batch(["a.png"], 32)
