"""Two read-outs of an image, fused where the classes were trained."""

from __future__ import annotations

import torch
from torch import Tensor

from cliptune.heads.mean import MeanHead
from cliptune.texts import TextBatch


class FusedHead(MeanHead):
    """logits = α · those of the first read-out + (1 − α) · those of the second.

    Where a class asked about was not trained, the first read-out, which generalises, answers alone. So it does where
    there is but one.

    Args: alpha: α in [0, 1].
    Source: MMRL (arXiv:2503.08497).
    """

    def __init__(self, alpha: float) -> None:
        super().__init__()
        self.alpha = alpha

    def forward(self, similarity: Tensor, texts: TextBatch, image_embedding: Tensor) -> Tensor:
        fused = similarity[:, :1]
        if similarity.shape[1] > 1:
            fused = self.alpha * fused + (1 - self.alpha) * similarity[:, 1:2]
        return super().forward(fused, texts, image_embedding)

    def for_classes(self, text_features: Tensor, places: tuple[int, ...]) -> FusedHead:
        return self if min(places) >= 0 else FusedHead(1.0)

    def fold(self, text_features: Tensor, texts: TextBatch, views: int) -> Tensor:
        """The mean text of each class, weighted by read-out."""
        means = MeanHead.fold(self, text_features, texts, 1)[0]
        weights = torch.zeros(views, 1, 1, dtype=means.dtype, device=means.device)
        weights[0] = self.alpha if views > 1 else 1.0
        weights[1:2] = 1 - self.alpha
        return weights * means
