"""Texts, head and scale as one matrix per view."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class FoldedClassifier:
    """A linear classifier on unit image features: z = Σ_v x_v W_vᵀ, without bias.

    Args:
        weight: (V, C, D) float32, the scale included; not unit-norm.
    """

    weight: Tensor

    def __call__(self, image_features: Tensor) -> Tensor:
        """Unit image features (B, V, D) → logits (B, C).

        Raises: ValueError for another number of views or another width.
        """
        if image_features.ndim != 3 or image_features.shape[1:] != (self.weight.shape[0], self.weight.shape[2]):
            raise ValueError(
                f"FoldedClassifier: image features must have shape (B, {self.weight.shape[0]}, "
                f"{self.weight.shape[2]}), got {tuple(image_features.shape)}. Give those of the adapter it came from."
            )
        # (B, V D) × (V D, C): one product instead of one per view
        return image_features.flatten(1) @ self.weight.transpose(1, 2).flatten(0, 1)
