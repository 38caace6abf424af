from __future__ import annotations

import itertools

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from cliptune.data import transforms
from cliptune.data.images import to_rgb
from tests.data.pictures import GOLDEN, noise

MEAN = torch.tensor([0.48145466, 0.4578275, 0.40821073])[:, None, None]
STD = torch.tensor([0.26862954, 0.26130258, 0.27577711])[:, None, None]


@pytest.fixture(scope="module")
def golden():
    return load_file(GOLDEN / "data_tf.safetensors")


def same_after_normalising(ours, stored):
    assert ours.dtype == torch.float32
    assert 0 <= float(ours.min()) <= float(ours.max()) <= 1
    return torch.equal((ours - MEAN) / STD, (stored.float() / 255 - MEAN) / STD)


@pytest.mark.parametrize("seed", range(4))
def test_train_transform_equals_the_reference(golden, seed):
    picture = Image.fromarray(golden["image_hwc_u8"].numpy())
    torch.manual_seed(seed)
    ours = transforms.train_transform(64)(picture)
    assert same_after_normalising(ours, golden[f"train_64_seed{seed}"])


@pytest.mark.parametrize("resolution", [64, 224])
def test_test_transform_equals_the_reference(golden, resolution):
    picture = Image.fromarray(golden["image_hwc_u8"].numpy())
    ours = transforms.test_transform(resolution)(picture)
    assert same_after_normalising(ours, golden[f"test_{resolution}"])


def test_portrait_and_grey_equal_the_reference(golden):
    pixels, transform = golden["image_hwc_u8"], transforms.test_transform(64)
    portrait = Image.fromarray(pixels.permute(1, 0, 2).contiguous().numpy())
    assert same_after_normalising(transform(portrait), golden["test_64_portrait"])
    grey = Image.fromarray(pixels[..., 0].contiguous().numpy())
    assert same_after_normalising(transform(to_rgb(grey)), golden["test_64_gray"])


def test_augmentation_depends_on_seed_epoch_and_index_alone():
    transform, picture = transforms.train_transform(8), noise(0)

    def view(*key):
        with transforms.sample_randomness(*key):
            return transform(picture)

    first = view(1, 2, 3)
    torch.rand(5)
    assert torch.equal(view(1, 2, 3), first)
    assert not any(torch.equal(view(*key), first) for key in [(2, 2, 3), (1, 3, 3), (1, 2, 4), (1, 3, 2)])


def test_sample_randomness_leaves_the_generator_as_it_was():
    torch.manual_seed(4)
    expected = torch.rand(3)
    torch.manual_seed(4)
    with transforms.sample_randomness(0, 0, 0):
        torch.rand(7)
    with pytest.raises(IndexError), transforms.sample_randomness(0, 0, 0):
        torch.rand(7)[8]
    assert torch.equal(torch.rand(3), expected)


def test_mixed_numbers_do_not_collide_and_fit_a_seed():
    seeds = [transforms.mixed(*key) for key in itertools.product(range(12), repeat=3)]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert transforms.mixed(1, 2) != transforms.mixed(2, 1)


def test_wrong_sizes_are_refused():
    with pytest.raises(ValueError, match="at least 1 pixel"):
        transforms.test_transform(0)
    with pytest.raises(ValueError, match="low ≤ high"):
        transforms.train_transform(8, scale=(0.5, 0.1))
