"""What selection rules look at.

Letters: N images, C classes, D embedding size, p = softmax(logits) (N, C), y one-hot labels, v image features and t_y
their classes' text features (both unit), mixed features f = ½v + ½t_y, and gradients of the last layer
g = [p − y; (p − y) ⊗ v] ∈ R^{C(1+D)}, which are never formed: g_i·g_j = (p_i − y_i)·(p_j − y_j) · (1 + v_i·v_j).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Pool:
    """What a model says about the images to choose from.

    Args:
        logits: (N, C). labels: (N,) int64 in 0 … C−1.
        image_features: (N, D) unit. text_features: (C, D) unit.
    """

    logits: Tensor
    labels: Tensor
    image_features: Tensor
    text_features: Tensor

    def __post_init__(self) -> None:
        n, c = self.logits.shape
        d = self.image_features.shape[-1]
        shapes = (tuple(self.labels.shape), tuple(self.image_features.shape), tuple(self.text_features.shape))
        if shapes != ((n,), (n, d), (c, d)):
            raise ValueError(
                f"Selection: logits {(n, c)} need labels ({n},), image features ({n}, D) and text features ({c}, D), "
                f"got {', '.join(map(str, shapes))}."
            )
        if n and not 0 <= int(self.labels.min()) <= int(self.labels.max()) < c:
            raise ValueError(f"Selection: labels must lie between 0 and {c - 1}, since logits have {c} classes.")

    def at(self, rows: Tensor) -> Pool:
        """Only these images."""
        return Pool(self.logits[rows], self.labels[rows], self.image_features[rows], self.text_features)

    @property
    def probabilities(self) -> Tensor:
        """(N, C)."""
        return self.logits.double().softmax(-1)

    @property
    def errors(self) -> Tensor:
        """p − y, (N, C)."""
        return self.probabilities - torch.nn.functional.one_hot(self.labels, self.logits.shape[1])

    @property
    def mixed(self) -> Tensor:
        """f, (N, D)."""
        return (self.image_features.double() + self.text_features.double()[self.labels]) / 2

    def gradient_products(self, other: Pool) -> Tensor:
        """g_i·g_j for images i here and j there, (N, M)."""
        features = self.image_features.double() @ other.image_features.double().T
        return (self.errors @ other.errors.T) * (1 + features)
