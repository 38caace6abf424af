"""The field's image transforms, and augmentation that depends on nothing but (seed, epoch, image).

Resizing is Pillow's (antialiased); resizing tensors gives other pixels. How it is done is the CLIP's `Preprocessing`.
The results lie in [0, 1]: the pixel port of the frozen CLIP normalises, because some methods add their pattern before
and some after.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import (
    CenterCrop,
    Compose,
    InterpolationMode,
    RandomCrop,
    RandomHorizontalFlip,
    RandomResizedCrop,
    Resize,
    ToTensor,
    TrivialAugmentWide,
)
from torchvision.transforms.functional import hflip, pad, resize, resized_crop

from cliptune.preprocessing import Preprocessing

Transform = Callable[[Image.Image], Tensor]
"""RGB picture of any size → (3, R, R) float32 in [0, 1]."""


def train_transform(
    resolution: int,
    scale: tuple[float, float] = (0.08, 1.0),
    *,
    resize_first: bool = False,
    trivial: bool = False,
    preprocessing: Preprocessing = Preprocessing(),
) -> Transform:
    """Random resized crop (area share `scale`, aspect 3/4 to 4/3) and a mirror image half of the time.

    Args:
        resolution: R in pixels; the tower's.
        scale: smallest and largest share of the picture's area; (0.08, 1) in the CoOp line and CLIP-LoRA,
            (0.5, 1) in Tip-Adapter.
        resize_first: resize the picture as in testing before the crop is taken, which so comes from fewer pixels; in
            visual reprogramming.
        trivial: resize as in testing, take a random crop of R × R, flip half of the time, then do one random operation
            of random strength (TrivialAugment, arXiv:2103.10158, Alg. 1, its wide space); what it uncovers is black.
        preprocessing: of the CLIP; its interpolation, and its resizing where that is first. From the same state of the
            generator, a mask of the picture's size gets the picture's crop and flip with `preprocessing.of_labels`.
    Returns: callable, RGB picture → (3, R, R) float32 in [0, 1]; draws from torch's CPU generator.
    """
    low, high = scale
    if not 0 < low <= high <= 1:
        raise ValueError(f"train_transform: scale must be 0 < low ≤ high ≤ 1, got {scale}. The default is (0.08, 1).")
    size = (_checked(resolution), resolution)
    first = _resizing(resolution, preprocessing) if resize_first or trivial else []
    if trivial:
        cut = RandomCrop(size, pad_if_needed=True)
        return Compose([*first, cut, RandomHorizontalFlip(), TrivialAugmentWide(), ToTensor()])
    if preprocessing.interpolation == "random":
        return Compose([*first, _EitherInterpolation(size, (low, high)), ToTensor()])
    crop = RandomResizedCrop(size, scale=(low, high), interpolation=_mode(preprocessing))
    return Compose([*first, crop, RandomHorizontalFlip(), ToTensor()])


def test_transform(
    resolution: int,
    *,
    preprocessing: Preprocessing = Preprocessing(),  # noqa: PT028  not a test
) -> Transform:
    """What a CLIP is tested with: resized and cropped or padded to R × R as its preprocessing says.

    RGB picture → (3, R, R) float32 in [0, 1]; the statistics of the preprocessing are not applied here.
    """
    return Compose([*_resizing(_checked(resolution), preprocessing), *_centre(resolution, preprocessing), ToTensor()])


test_transform.__test__ = False  # type: ignore[attr-defined]  # pytest takes any imported test_* for a test


@contextmanager
def sample_randomness(seed: int, epoch: int, index: int) -> Iterator[None]:
    """Inside, torch's CPU generator starts from a number mixed from (seed, epoch, index); after it, it is as
    before.

    So the augmentation of image `index` in an epoch is the same whatever was drawn before it, in whichever
    worker. Only
    the CPU generator is touched: `torch.manual_seed` would also restart the GPU's, and with it every dropout
        mask.
    """
    generator = torch.default_generator
    state = generator.get_state()
    generator.manual_seed(mixed(seed, epoch, index))
    try:
        yield
    finally:
        generator.set_state(state)


def mixed(*numbers: int) -> int:
    """One 63-bit seed out of several integers, unrelated for neighbouring inputs (the finaliser of
    SplitMix64).
    """
    state = 0
    for number in numbers:
        state = (state + 0x9E3779B97F4A7C15 + number) % 2**64
        state = (state ^ (state >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
        state = (state ^ (state >> 27)) * 0x94D049BB133111EB % 2**64
        state ^= state >> 31
    return state >> 1


class _EitherInterpolation:
    """Random resized crop and flip, by bicubic or bilinear interpolation; that is drawn last, so that a mask, which
    draws none, gets the same crop and flip.
    """

    def __init__(self, size: tuple[int, int], scale: tuple[float, float]) -> None:
        self.size, self.scale = size, scale

    def __call__(self, picture: Image.Image) -> Image.Image:
        crop = RandomResizedCrop.get_params(picture, list(self.scale), [3 / 4, 4 / 3])
        mirrored = bool(torch.rand(1) < 0.5)
        mode = InterpolationMode.BILINEAR if torch.rand(1) < 0.5 else InterpolationMode.BICUBIC
        cut = resized_crop(picture, *crop, list(self.size), mode)
        return hflip(cut) if mirrored else cut


class _LongSide:
    """The long side to `side`; sides are rounded as in timm and open_clip."""

    def __init__(self, side: int, mode: InterpolationMode) -> None:
        self.side, self.mode = side, mode

    def __call__(self, picture: Image.Image) -> Image.Image:
        ratio = max(picture.size) / self.side
        return resize(picture, [max(1, round(length / ratio)) for length in (picture.height, picture.width)], self.mode)


class _Padded:
    """Padding to at least `side` on both axes; of an odd number of pixels, the one more is right or below."""

    def __init__(self, side: int, fill: int) -> None:
        self.side, self.fill = side, fill

    def __call__(self, picture: Image.Image) -> Image.Image:
        across, down = (max(0, self.side - length) for length in picture.size)
        return pad(picture, [across // 2, down // 2, (across + 1) // 2, (down + 1) // 2], fill=self.fill)


def _resizing(resolution: int, how: Preprocessing) -> list[Callable[[Image.Image], Image.Image]]:
    side, mode = how.side(resolution), _mode(how)
    if how.resize == "longest":
        return [_LongSide(side, mode)]
    return [Resize((side, side) if how.resize == "squash" else side, interpolation=mode)]


def _centre(resolution: int, how: Preprocessing) -> list[Callable[[Image.Image], Image.Image]]:
    padding = [_Padded(resolution, how.fill)] if how.resize == "longest" else []
    return [*padding, CenterCrop((resolution, resolution))]


def _mode(how: Preprocessing) -> InterpolationMode:
    """Of everything but the random draw of training."""
    return {"bilinear": InterpolationMode.BILINEAR, "nearest": InterpolationMode.NEAREST}.get(
        how.interpolation, InterpolationMode.BICUBIC
    )


def _checked(resolution: int) -> int:
    if resolution < 1:
        raise ValueError(f"Transform: the resolution must be at least 1 pixel, got {resolution}.")
    return resolution
