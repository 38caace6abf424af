"""Views mixed by AugMix, with Pillow's operations as the truth."""

from __future__ import annotations

from random import Random

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from cliptune.prompts import mixed_views
from cliptune.prompts.mixed_views import AugMixViews

# A turn by one degree against the clock.
SEED = 7


@pytest.fixture
def image() -> torch.Tensor:
    """(3, 32, 32) of whole levels, smooth in two channels."""
    ramp = torch.linspace(20, 200, 32).round()
    noise = torch.randint(0, 256, (32, 32), generator=torch.Generator().manual_seed(0))
    return torch.stack([ramp.expand(32, 32), ramp[:, None].expand(32, 32), noise]).float() / 255


def pillow(image: torch.Tensor) -> Image.Image:
    return Image.fromarray((255 * image).round().byte().permute(1, 2, 0).numpy())


def tensor(picture: Image.Image) -> torch.Tensor:
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1).float() / 255


@pytest.mark.parametrize(
    ("name", "theirs"),
    [
        ("autocontrast", ImageOps.autocontrast),
        ("equalize", ImageOps.equalize),
        ("posterize", lambda picture: ImageOps.posterize(picture, 4)),
    ],
)
def test_operations_on_values_are_pillows(name, theirs, image):
    found = getattr(mixed_views, name)(image, Random(0))
    torch.testing.assert_close(found, tensor(theirs(pillow(image))), rtol=0, atol=1.01 / 255)


def test_solarize_is_pillows(image):
    threshold = 256 - int(25.6 * Random(5).uniform(0.1, 1.0))
    expected = tensor(ImageOps.solarize(pillow(image), threshold))
    torch.testing.assert_close(mixed_views.solarize(image, Random(5)), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    "map", [(1, 0.03, 0, 0, 1, 0), (1, 0, 0, -0.02, 1, 0), (1, 0, 2, 0, 1, 0), (1, 0, 0, 0, 1, -1)]
)
def test_moves_are_pillows_inside(map, image):
    expected = tensor(
        pillow(image).transform((32, 32), Image.Transform.AFFINE, map, resample=Image.Resampling.BILINEAR)
    )
    found = mixed_views.moved(image, map)
    torch.testing.assert_close(found[:, 3:-3, 3:-3], expected[:, 3:-3, 3:-3], rtol=0, atol=1.5 / 255)


def test_a_turn_is_pillows_inside(image):
    draw = Random(SEED)
    degrees = int(3 * draw.uniform(0.1, 1.0))
    degrees = -degrees if draw.random() > 0.5 else degrees
    assert degrees != 0
    expected = tensor(pillow(image).rotate(degrees, resample=Image.Resampling.BILINEAR))
    found = mixed_views.rotate(image, Random(SEED))
    torch.testing.assert_close(found[:, 3:-3, 3:-3], expected[:, 3:-3, 3:-3], rtol=0, atol=1.5 / 255)


def test_an_image_has_the_same_views_wherever_it_comes(tiny_clip, image):
    prompt = AugMixViews(tiny_clip, 5)
    other = torch.rand(3, 32, 32)
    shown = prompt().pixels(torch.stack([other, image]), None)
    assert shown.shape == (2, 6, 3, 32, 32)
    assert torch.equal(shown[1], prompt().pixels(image[None], None)[0])
    torch.testing.assert_close(shown[1, 0], tiny_clip.normalise(image[None])[0])
    views = prompt.of_one(image)
    assert views.min() >= 0
    assert views.max() <= 1
    assert len({float(view.sum()) for view in views}) == 6


def test_no_view_is_a_sentence(tiny_clip):
    with pytest.raises(ValueError, match="at least 1 further view"):
        AugMixViews(tiny_clip, 0)
