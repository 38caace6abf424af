"""Prototypes of texts and images in closed form."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from cliptune.heads.probe import TextHead, unit

# The smallest λ, as released.
SMALLEST = 1e-3


class SSTextHead(TextHead):
    """w_c = t̂_c + s / (N λ_c) Σ f̂_i over the images i of class c, of N in all; one step from texts towards images.

    Args:
        classes: C. width: D. scale: s.
        balance: λ_c = 1 / N_c for a class of N_c images, so that rare classes stay near their texts; else 1 / N for
            all. λ is at least 0.001.
        repel: then take unit(2 w_c − mean of all w) from every w_c.

    A class without images keeps its text as w_c. Computed in float64.
    Source: SS-Text (arXiv:2506.06076) without the two options, SS-Text+ (arXiv:2506.17500) with both; as released,
        but texts and images are unit here whatever the backbone.
    """

    visual: Tensor

    def __init__(self, classes: int, width: int, scale: float, balance: bool = True, repel: bool = True) -> None:
        super().__init__(classes, width, scale)
        self.balance, self.repel = balance, repel
        self.register_buffer("visual", torch.zeros(classes, width))

    def prototypes(self, text: Tensor) -> Tensor:
        blended = text + self.visual.to(text.dtype)
        if not self.repel or not self.visual.any():
            return blended
        return blended - F.normalize(2 * blended - blended.mean(dim=-2, keepdim=True), dim=-1)

    def _fit(self, embedding: Tensor, labels: Tensor, text: Tensor, images: int) -> None:
        count = labels.bincount(minlength=self.classes).double()
        weight = (count if self.balance else torch.full_like(count, len(labels))).clamp(max=1 / SMALLEST)  # 1 / λ
        sums = torch.zeros_like(text).index_add(0, labels, unit(embedding))
        self.visual.copy_(self.scale / len(labels) * weight[:, None] * sums)
