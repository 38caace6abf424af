"""Further views of each image, mixed of altered copies; nothing in them is learned."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable
from random import Random

import torch
import torch.nn.functional as F
from torch import Tensor

from cliptune.clip.model import CLIP
from cliptune.clip.pictures import fitted
from cliptune.clip.ports import Ports
from cliptune.prompts.base import Prompt

# Chains of operations that are mixed, and operations in a chain at most.
CHAINS, LONGEST = 3, 3
# Of random crops: share of the area, and of width to height.
AREA, RATIO = (0.08, 1.0), (3 / 4, 4 / 3)
_TRIES = 10


class AugMixViews(Prompt):
    """1 + n views at the `pixels` port: the image, and n of x̃ = m x + (1 − m) Σ w_i a_i(x) of random crops x of it.

    Each crop is flipped in one of two cases; a_1, a_2, a_3 are one to three operations of least strength each, w is
    Dirichlet(1, 1, 1) and m is Beta(1, 1). What is drawn depends on the image alone, so that an image has the same
    views whenever and beside whatever it comes.

    Args:
        clip: gives resolution R, mean and standard deviation; it is not kept.
        views: n ≥ 1.
    Source: AugMix (arXiv:1912.02781), with the operations and strength of TDA's release (datasets/augmix_ops.py). There
        crops are of the picture as it lies on the disk, here of the square that the tower is shown.
    """

    def __init__(self, clip: CLIP, views: int) -> None:
        super().__init__()
        if views < 1:
            raise ValueError(f"AugMixViews: at least 1 further view is needed, got {views}.")
        self.views, self.side, self.mean, self.std = views, clip.image.resolution, clip.mean, clip.std

    def forward(self, seen: bool = True) -> Ports:
        return Ports(pixels=self._views)

    def _views(self, images: Tensor, batch: object) -> Tensor:
        """(B, 3, h, w) in [0, 1] → (B, 1 + n, 3, R, R), normalised."""
        mean, std = (images.new_tensor(v)[:, None, None] for v in (self.mean, self.std))
        shown = torch.stack([self.of_one(image) for image in fitted(images, self.side)])
        return (shown - mean) / std

    def of_one(self, image: Tensor) -> Tensor:
        """The image (3, R, R) in [0, 1] and its views, (1 + n, 3, R, R)."""
        levels = (255 * image).round().to(torch.uint8).cpu().contiguous()
        draw = Random(zlib.crc32(levels.numpy().tobytes()))
        return torch.stack([image, *(mixed(crop(image, draw), draw) for _ in range(self.views))])


def crop(image: Tensor, draw: Random) -> Tensor:
    """A random part of a square image (3, R, R), of its size again, in one of two cases flipped."""
    side = image.shape[-1]
    top, left, height, width = 0, 0, side, side
    for _ in range(_TRIES):
        area = side * side * draw.uniform(*AREA)
        ratio = math.exp(draw.uniform(math.log(RATIO[0]), math.log(RATIO[1])))
        wide, high = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < wide <= side and 0 < high <= side:
            top, left, height, width = draw.randint(0, side - high), draw.randint(0, side - wide), high, wide
            break
    part = image[None, :, top : top + height, left : left + width]
    part = F.interpolate(part, (side, side), mode="bilinear", antialias=True, align_corners=False)[0].clamp(0, 1)
    return part.flip(-1) if draw.random() < 0.5 else part


def mixed(image: Tensor, draw: Random) -> Tensor:
    """m x + (1 − m) Σ w_i a_i(x) of an image (3, R, R) in [0, 1]."""
    weights = [draw.gammavariate(1.0, 1.0) for _ in range(CHAINS)]
    share = draw.betavariate(1.0, 1.0)
    mixture = torch.zeros_like(image)
    for weight in weights:
        altered = image
        for _ in range(draw.randint(1, LONGEST)):
            altered = draw.choice(OPERATIONS)(altered, draw)
        mixture = mixture + weight / sum(weights) * altered
    return share * image + (1 - share) * mixture


def autocontrast(image: Tensor, draw: Random) -> Tensor:
    """Each channel stretched to [0, 1]."""
    low, high = (getattr(image, what)(dim=(-2, -1), keepdim=True) for what in ("amin", "amax"))
    return torch.where(high > low, (image - low) / (high - low).clamp(min=1e-6), image)


def equalize(image: Tensor, draw: Random) -> Tensor:
    """Each channel's 256 levels spread evenly, as Pillow does."""
    return torch.stack([_equalized(channel) for channel in image])


def _equalized(channel: Tensor) -> Tensor:
    levels = (255 * channel).round().long()
    counts = levels.flatten().bincount(minlength=256)
    step = int(counts.sum() - counts[counts.nonzero()[-1]]) // 255
    if step == 0:
        return channel
    table = (step // 2 + counts.cumsum(0) - counts) // step
    return table.clamp(max=255).to(channel)[levels] / 255


def posterize(image: Tensor, draw: Random) -> Tensor:
    """Four bits of each value."""
    return ((255 * image).round().long() & 0xF0).to(image) / 255


def solarize(image: Tensor, draw: Random) -> Tensor:
    """Values from a high threshold on inverted."""
    threshold = 256 - int(25.6 * draw.uniform(0.1, 1.0))
    return torch.where((255 * image).round() < threshold, image, 1 - image)


def rotate(image: Tensor, draw: Random) -> Tensor:
    """By at most 2 degrees about the centre."""
    angle = math.radians(_signed(int(3 * draw.uniform(0.1, 1.0)), draw))
    cosine, sine, centre = math.cos(angle), math.sin(angle), image.shape[-1] / 2
    across = centre * (1 - cosine + sine)
    return moved(image, (cosine, -sine, across, sine, cosine, centre * (1 - sine - cosine)))


def shear_x(image: Tensor, draw: Random) -> Tensor:
    """Rows shifted by at most 0.03 of their height in the image."""
    return moved(image, (1, _signed(0.03 * draw.uniform(0.1, 1.0), draw), 0, 0, 1, 0))


def shear_y(image: Tensor, draw: Random) -> Tensor:
    """Columns likewise."""
    return moved(image, (1, 0, 0, _signed(0.03 * draw.uniform(0.1, 1.0), draw), 1, 0))


def translate_x(image: Tensor, draw: Random) -> Tensor:
    """By at most a thirtieth of the side, in whole pixels."""
    return moved(image, (1, 0, _signed(_shift(image, draw), draw), 0, 1, 0))


def translate_y(image: Tensor, draw: Random) -> Tensor:
    """Likewise, downwards or up."""
    return moved(image, (1, 0, 0, 0, 1, _signed(_shift(image, draw), draw)))


def _shift(image: Tensor, draw: Random) -> int:
    return int(image.shape[-1] / 30 * draw.uniform(0.1, 1.0))


def _signed(value: float, draw: Random) -> float:
    return -value if draw.random() > 0.5 else value


def moved(image: Tensor, map: tuple[float, ...]) -> Tensor:
    """Read an image (3, R, R) at (a x + b y + c, d x + e y + f) of the middles of pixels, black beside it.

    Args: map: a, b, c, d, e, f.
    """
    side = image.shape[-1]
    a, b, c, d, e, f = map
    # In [−1, 1] over the image: the shift also holds what a turn of the upper left corner is there.
    theta = image.new_tensor([[a, b, 2 * c / side + a + b - 1], [d, e, 2 * f / side + d + e - 1]])
    grid = F.affine_grid(theta[None], [1, 3, side, side], align_corners=False)
    return F.grid_sample(image[None], grid, align_corners=False)[0]


OPERATIONS: tuple[Callable[[Tensor, Random], Tensor], ...] = (
    autocontrast, equalize, posterize, rotate, solarize, shear_x, shear_y, translate_x, translate_y,
)  # fmt: skip
