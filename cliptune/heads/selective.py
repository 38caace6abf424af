"""A learned prototype for each trained class, and the texts for all others."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cliptune.heads.mean import MeanHead
from cliptune.texts import TextBatch


class SelectiveHead(MeanHead):
    """logits_c = s · f̂ · ŵ_c, with w_c learned for the trained classes, and the text feature of any other class.

    Until `open` is called the texts answer for all classes.

    Args:
        classes: C. width: D.
        scale: s of the similarities.
    Source: the second stage of 2SFS and its selective inference (arXiv:2503.11609).
    """

    weight: Tensor
    opened: Tensor

    def __init__(self, classes: int, width: int, scale: float) -> None:
        super().__init__()
        self.scale = scale
        self.weight = nn.Parameter(torch.zeros(classes, width))
        self.register_buffer("opened", torch.tensor(False))

    @torch.no_grad()
    def open(self, text_features: Tensor) -> None:
        """The prototypes begin at the unit texts (C, D) of the trained classes; called again, nothing happens."""
        if not self.opened:
            self.weight.copy_(text_features)
            self.opened.fill_(True)

    def forward(self, similarity: Tensor, texts: TextBatch, image_embedding: Tensor) -> Tensor:
        if not self.opened:
            return super().forward(similarity, texts, image_embedding)
        feature = F.normalize(image_embedding, dim=-1).to(self.weight.dtype)
        return self.scale * (feature @ F.normalize(self.weight, dim=-1).T).mean(dim=1)

    @torch.no_grad()
    def for_classes(self, text_features: Tensor, places: tuple[int, ...]) -> SelectiveHead:
        """The same answers for trained classes, in any company. Args: text_features (1, K, D), one text per class."""
        if not self.opened:
            return self
        at = torch.tensor(places, device=self.weight.device)
        known = F.normalize(self.weight, dim=-1)[at.clamp(min=0)]
        other = SelectiveHead(len(places), self.weight.shape[1], self.scale).to(self.weight.device)
        other.open(torch.where(at[:, None] >= 0, known, text_features[0].to(known.dtype)))
        return other

    def fold(self, text_features: Tensor, texts: TextBatch, views: int) -> Tensor:
        """The prototypes, for every view alike."""
        if not self.opened:
            return super().fold(text_features, texts, views)
        prototypes = F.normalize(self.weight.detach().to(text_features.dtype), dim=-1)
        return (prototypes / views).expand(views, -1, -1)
