"""Shifted domains keep shape and range, and shift."""

import pytest
import torch

from cliptune.data.tinyworld.domains import DOMAINS, shift
from cliptune.data.tinyworld.draws import Draws
from cliptune.data.tinyworld.suites import images_of, load_suite, masks_of


@pytest.mark.parametrize("domain", DOMAINS)
def test_domain_keeps_shape_and_range(domain):
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    shifted = shift(images, domain, Draws(["a", "b"]))
    assert shifted.shape == images.shape
    assert float(shifted.min()) >= 0
    assert float(shifted.max()) <= 1
    assert torch.equal(shifted, images) == (domain == "photo")


def test_a_domain_shows_the_same_scenes():
    photo = load_suite("objects", train=0, val=0, test=1)
    night = load_suite("objects", domain="night", train=0, val=0, test=1)
    assert torch.equal(masks_of(photo.test, range(12)), masks_of(night.test, range(12)))
    ratio = images_of(night.test, range(12)).mean() / images_of(photo.test, range(12)).mean()
    assert 0.2 < ratio < 0.5
    assert night.test.ids[0] != photo.test.ids[0]


def test_inverted_is_one_minus_the_picture():
    images = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(shift(images, "inverted", Draws(["a"])), 1 - images)


def test_unknown_domain_lists_the_known():
    with pytest.raises(ValueError, match="sketch"):
        shift(torch.zeros(1, 3, 64, 64), "fog", Draws(["a"]))
