"""Turning what a caller holds into the square pixels a tower takes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def as_batch(images: Tensor | Sequence[Any], resolution: int) -> Tensor:
    """Images → (B, 3, R, R) float32 in [0, 1]: short side to R (bicubic), centre crop, as in testing.

    Args:
        images: (B, 3, h, w) or (3, h, w) tensor, floats in [0, 1] or uint8; or PIL images.
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
        transform = test_transform(resolution)
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
    scale = resolution / min(h, w)
    size = (max(resolution, int(h * scale)), max(resolution, int(w * scale)))
    pixels = F.interpolate(pixels, size, mode="bicubic", antialias=True, align_corners=False).clamp(0, 1)
    top, left = round((size[0] - resolution) / 2), round((size[1] - resolution) / 2)
    return pixels[..., top : top + resolution, left : left + resolution]
