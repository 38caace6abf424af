"""The field's image transforms, and augmentation that depends on nothing but (seed, epoch, image).

Resizing is Pillow's (antialiased bicubic); resizing tensors gives other pixels. The results lie in [0, 1]:
the pixel port of the frozen CLIP normalises, because some methods add their pattern before and some after.
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
    RandomHorizontalFlip,
    RandomResizedCrop,
    Resize,
    ToTensor,
)

Transform = Callable[[Image.Image], Tensor]
"""RGB picture of any size → (3, R, R) float32 in [0, 1]."""


def train_transform(
    resolution: int,
    scale: tuple[float, float] = (0.08, 1.0),
    *,
    resize_first: bool = False,
    interpolation: InterpolationMode = InterpolationMode.BICUBIC,
) -> Transform:
    """Random resized crop (area share `scale`, aspect 3/4 to 4/3) and a mirror image half of the time.

    Args:
        resolution: R in pixels; the tower's.
        scale: smallest and largest share of the picture's area; (0.08, 1) in the CoOp line and CLIP-LoRA,
            (0.5, 1) in Tip-Adapter.
        resize_first: bring the short side to R before the crop is taken, which so comes from fewer pixels; in visual
            reprogramming.
        interpolation: of the pixels. What is drawn does not depend on it: from the same state of the generator, a mask
            of the picture's size gets the picture's crop and flip, with nearest interpolation.
    Returns: callable, RGB picture → (3, R, R) float32 in [0, 1]; draws from torch's CPU generator.
    """
    low, high = scale
    if not 0 < low <= high <= 1:
        raise ValueError(f"train_transform: scale must be 0 < low ≤ high ≤ 1, got {scale}. The default is (0.08, 1).")
    size = (_checked(resolution), resolution)
    crop = RandomResizedCrop(size, scale=(low, high), interpolation=interpolation)
    first = [Resize(resolution, interpolation=interpolation)] if resize_first else []
    return Compose([*first, crop, RandomHorizontalFlip(), ToTensor()])


def test_transform(
    resolution: int,
    *,
    interpolation: InterpolationMode = InterpolationMode.BICUBIC,  # noqa: PT028  not a test
) -> Transform:
    """Short side resized to R, centre R × R cut out; RGB picture → (3, R, R) float32 in [0, 1]."""
    resize = Resize(_checked(resolution), interpolation=interpolation)
    return Compose([resize, CenterCrop((resolution, resolution)), ToTensor()])


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


def _checked(resolution: int) -> int:
    if resolution < 1:
        raise ValueError(f"Transform: the resolution must be at least 1 pixel, got {resolution}.")
    return resolution
