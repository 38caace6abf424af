from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from cliptune.data.transforms import test_transform as evaluation_transform
from cliptune.exported import pixels
from tests.cli.conftest import picture

SIZES = [(40, 64), (64, 40), (33, 33), (32, 32), (32, 57), (7, 90), (301, 200), (1, 1), (31, 33)]


@pytest.mark.parametrize("side", [27, 32, 64])
@pytest.mark.parametrize("size", SIZES)
def test_pixels_are_those_of_evaluation_to_the_byte(size, side):
    image = picture((90, 160, 40), size, seed=3)
    expected = evaluation_transform(side)(image)
    found = pixels(image, side)
    assert found.dtype == np.uint8
    assert np.array_equal(found.astype(np.float32) / np.float32(255), expected.numpy())


@pytest.mark.parametrize("mode", ["L", "P", "CMYK", "RGBA", "I;16"])
def test_every_mode_becomes_rgb(mode):
    image = picture((90, 160, 40), (50, 40), seed=1)
    grey = np.asarray(image.convert("L")).astype(np.uint16) * 257
    image = Image.fromarray(grey) if mode == "I;16" else image.convert(mode)
    assert pixels(image, 32).shape == (3, 32, 32)
