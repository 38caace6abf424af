from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from cliptune.data import transforms
from cliptune.data.images import to_rgb
from cliptune.preprocessing import Preprocessing
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


FILTERS = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}


def pixels_of(picture):
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1).float() / 255


@pytest.mark.parametrize("interpolation", FILTERS)
@pytest.mark.parametrize("size", [(97, 60), (60, 97), (40, 40)])
def test_squashed_pictures_are_resized_by_pillow_on_both_sides(size, interpolation):
    picture = noise(1).resize(size)
    how = Preprocessing("squash", interpolation)
    ours = transforms.test_transform(32, preprocessing=how)(picture)
    assert torch.equal(ours, pixels_of(picture.resize((32, 32), FILTERS[interpolation])))


@pytest.mark.parametrize(("size", "inside", "corner"), [((90, 61), (33, 22), (0, 5)), ((61, 90), (22, 33), (5, 0))])
def test_the_long_side_is_kept_whole_and_the_rest_padded(size, inside, corner):
    picture = noise(2).resize(size)
    ours = transforms.test_transform(33, preprocessing=Preprocessing("longest", "bilinear", fill=51))(picture)
    expected = Image.new("RGB", (33, 33), (51, 51, 51))
    expected.paste(picture.resize(inside, Image.Resampling.BILINEAR), corner)
    assert torch.equal(ours, pixels_of(expected))


def test_pictures_may_be_resized_to_more_than_is_cut_out():
    picture = noise(3).resize((80, 40))
    ours = transforms.test_transform(28, preprocessing=Preprocessing(oversize=32 / 28))(picture)
    resized = picture.resize((64, 32), Image.Resampling.BICUBIC)
    assert torch.equal(ours, pixels_of(resized.crop((18, 2, 46, 30))))
    squashed = transforms.test_transform(28, preprocessing=Preprocessing("squash", oversize=32 / 28))(picture)
    assert torch.equal(squashed, pixels_of(picture.resize((32, 32), Image.Resampling.BICUBIC).crop((2, 2, 30, 30))))


def test_training_crops_follow_the_interpolation():
    picture = noise(4).resize((50, 40))
    views = {}
    for name in ("bicubic", "bilinear", "random"):
        torch.manual_seed(3)
        transform = transforms.train_transform(16, preprocessing=Preprocessing(interpolation=name))
        views[name] = [transform(picture) for _ in range(1 if name != "random" else 12)]
    assert not torch.equal(views["bicubic"][0], views["bilinear"][0])
    assert any(torch.equal(views["random"][0], views[name][0]) for name in ("bicubic", "bilinear"))


def test_random_interpolation_draws_both_and_the_same_crop_as_a_mask():
    picture = noise(5).resize((50, 40))
    random = Preprocessing(interpolation="random")
    seen = set()
    for seed in range(12):
        views = {}
        for how in (random, *(Preprocessing(interpolation=name) for name in FILTERS)):
            torch.manual_seed(seed)
            views[how.interpolation] = transforms.train_transform(16, preprocessing=how)(picture)
        seen.add(next(name for name in FILTERS if torch.equal(views["random"], views[name])))
    assert seen == set(FILTERS)
    assert random.of_labels.interpolation == "nearest"


def test_what_is_resized_first_follows_the_mode():
    picture = noise(6).resize((64, 32))
    torch.manual_seed(0)
    ours = transforms.train_transform(16, resize_first=True, preprocessing=Preprocessing("squash"))(picture)
    torch.manual_seed(0)
    expected = transforms.train_transform(16)(picture.resize((16, 16), Image.Resampling.BICUBIC))
    assert torch.equal(ours, expected)


def test_trivial_augment_is_torchvisions_after_crop_and_flip():
    """From the same state of the generator, the operations one after another by torchvision."""
    from torchvision import transforms as reference

    picture = noise(3, 50, 40)
    plain = reference.Compose(
        [
            reference.Resize(32, interpolation=reference.InterpolationMode.BICUBIC),
            reference.RandomCrop(32),
            reference.RandomHorizontalFlip(),
            reference.TrivialAugmentWide(),
            reference.ToTensor(),
        ]
    )
    for seed in range(5):
        torch.manual_seed(seed)
        expected = plain(picture)
        torch.manual_seed(seed)
        ours = transforms.train_transform(32, trivial=True)(picture)
        assert ours.shape == (3, 32, 32)
        assert torch.equal(ours, expected)
