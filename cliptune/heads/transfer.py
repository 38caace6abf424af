"""A linear classifier of channel-adjusted embeddings beside another head."""

from __future__ import annotations

import copy
import math
from typing import Any, Literal

import torch
from torch import Tensor, nn

from cliptune.heads.base import Head
from cliptune.texts import TextBatch

Fusion = Literal["paper", "released"]
FUSIONS = ("paper", "released")


class ChannelScale(nn.Module):
    """γ ⊙ x + β over the D channels of an embedding (..., D), γ from 1 and β from 0."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.scale, self.shift = nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width))

    def forward(self, embedding: Tensor) -> Tensor:
        return self.scale * embedding + self.shift


class TransferHead(Head):
    """The channel adjusted transfer (CAT) head of DePT beside the host's own.

    z = W (γ ⊙ f + β) + b of the embedding f before unit norm, with scales and shifts of their own for images and for
    texts; texts are only looked at in training. Fused with the host's logits ("paper"), as probabilities:
    λ softmax(z) + (1 − λ) softmax(host); or ("released") as logits, λ z + (1 − λ) host. The W and b of other classes
    are not known, so where any class asked about is not a trained one, the host's head answers alone.

    Args:
        host: learns nothing and holds nothing.
        classes: C. width: D, of image and text embeddings.
        weight: λ, between 0 and 1.
        fusion: see above.

    Learnable values: 4 D + D C + C.
    Raises: ValueError for a weight or fusion that is not one of these.
    Source: DePT (arXiv:2309.07439; trainers/elp_coop.py of its release).
    """

    def __init__(self, host: Head, classes: int, width: int, weight: float = 0.7, fusion: Fusion = "paper") -> None:
        super().__init__()
        if not 0 < weight < 1:
            raise ValueError(f"dept: dept_weight must be between 0 and 1, both left out, got {weight}.")
        if fusion not in FUSIONS:
            raise ValueError(f"dept: dept_fusion must be one of {', '.join(FUSIONS)}, got {fusion!r}.")
        self.host, self.weight, self.fusion = host, weight, fusion
        self.image, self.text = ChannelScale(width), ChannelScale(width)
        self.classifier = nn.Linear(width, classes)
        self.places: list[int] | None = None

    def forward(self, similarity: Tensor, texts: TextBatch, image_embedding: Tensor) -> Tensor:
        host = self.host(similarity, texts, image_embedding)
        own = self.of_images(image_embedding)
        if self.fusion == "released":
            return torch.lerp(host, own, self.weight)
        return torch.logaddexp(
            own.log_softmax(dim=-1) + math.log(self.weight), host.log_softmax(dim=-1) + math.log1p(-self.weight)
        )

    def of_images(self, embedding: Tensor) -> Tensor:
        """z (B, C) of image embeddings (B, V, D), the mean over views."""
        return self._classified(self.image(embedding.mean(dim=1)))

    def of_texts(self, embedding: Tensor) -> Tensor:
        """z (N, C) of text embeddings (N, D)."""
        return self._classified(self.text(embedding))

    def _classified(self, adjusted: Tensor) -> Tensor:
        scores: Tensor = self.classifier(adjusted)
        return scores if self.places is None else scores[:, self.places]

    def for_classes(self, text_features: Tensor, places: tuple[int, ...]) -> Head:
        if min(places) < 0:
            return self.host.for_classes(text_features, places)
        chosen = copy.copy(self)  # shares the learnables
        chosen.places = list(places)
        return chosen

    def observe(self, out: Any, labels: Tensor, split: str = "train") -> None:
        self.host.observe(out, labels, split)

    def refit(self) -> None:
        self.host.refit()
