"""Turning what a caller holds into the square pixels a tower takes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from cliptune.preprocessing import Preprocessing


def as_batch(images: Tensor | Sequence[Any], resolution: int, preprocessing: Preprocessing = Preprocessing()) -> Tensor:
    """Images → (B, 3, R, R) float32 in [0, 1], resized and cropped or padded as in testing.

    Args:
        images: (B, 3, h, w) or (3, h, w) tensor, floats in [0, 1] or uint8; or PIL images. A tensor is resized by
            torch, which gives slightly other pixels than Pillow; at R × R it is taken as it is.
        resolution: R in pixels.
        preprocessing: of the CLIP.
    Raises: ValueError for other shapes, or floats outside [0, 1].
    """
    if not isinstance(images, Tensor):
        from cliptune.data.images import to_rgb
        from cliptune.data.transforms import test_transform

        images = images if isinstance(images, Sequence) else [images]
        if not images:
            raise ValueError("Adapter: at least one image is needed, got an empty list.")
        strange = next((image for image in images if not hasattr(image, "load")), None)
        if strange is not None:
            raise ValueError(
                f"Adapter: images must be PIL images or a tensor, got a {type(strange).__name__}. Open files with "
                "cliptune.data.read_image(path)."
            )
        transform = test_transform(resolution, preprocessing=preprocessing)
        return torch.stack([transform(to_rgb(image)) for image in images])
    if images.ndim == 3:
        images = images[None]
    if images.ndim != 4 or images.shape[1] != 3:
        raise ValueError(f"Adapter: images must have shape (B, 3, h, w), got {tuple(images.shape)}.")
    pixels = images.float() / 255 if images.dtype == torch.uint8 else images.float()
    if images.dtype != torch.uint8 and len(pixels) and (pixels.min() < -1e-3 or pixels.max() > 1 + 1e-3):
        raise ValueError(
            f"Adapter: image tensors must lie in [0, 1] and not be normalised, got values from {pixels.min():.3g} to "
            f"{pixels.max():.3g}. Divide by 255, or leave out the normalisation; the adapter does it."
        )
    h, w = pixels.shape[-2:]
    if (h, w) == (resolution, resolution):
        return pixels
    return _resized(pixels, resolution, preprocessing)


def _resized(pixels: Tensor, resolution: int, how: Preprocessing) -> Tensor:
    """(B, 3, h, w) → (B, 3, R, R) in [0, 1]."""
    h, w = pixels.shape[-2:]
    side = how.side(resolution)
    if how.resize == "squash":
        size = (side, side)
    elif how.resize == "longest":
        size = (max(1, round(h * side / max(h, w))), max(1, round(w * side / max(h, w))))
    else:
        scale = side / min(h, w)
        size = (max(side, int(h * scale)), max(side, int(w * scale)))
    mode = "bilinear" if how.interpolation == "bilinear" else "bicubic"
    pixels = F.interpolate(pixels, size, mode=mode, antialias=True, align_corners=False).clamp(0, 1)
    down, across = (max(0, resolution - length) for length in size)
    if down or across:
        around = (across // 2, (across + 1) // 2, down // 2, (down + 1) // 2)
        pixels = F.pad(pixels, around, value=how.fill / 255)
    top, left = (round((length - resolution) / 2) for length in pixels.shape[-2:])
    return pixels[..., top : top + resolution, left : left + resolution]
