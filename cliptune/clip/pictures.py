"""Bringing image tensors to a side in pixels."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def fitted(images: Tensor, side: int) -> Tensor:
    """Images (B, 3, h, w) in [0, 1] → (B, 3, side, side): bicubic with antialiasing, stretched if not square.

    Images of that size are returned as they are.
    """
    if images.shape[-2:] == (side, side):
        return images
    return F.interpolate(images, (side, side), mode="bicubic", antialias=True, align_corners=False).clamp(0, 1)
