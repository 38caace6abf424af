"""Learned weights over each class's descriptions, then a learned exchange between classes."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cliptune.heads.base import Head
from cliptune.heads.descriptions import own_scores, weighted_prototypes
from cliptune.texts import TextBatch


class RVPHead(Head):
    """f[b, c] = Σ_m softmax(P)[c, m] · s[b, c, m];  z = f (I + E).

    Args:
        classes: C. descriptions: M per class.
        residual: learn E (C, C), which starts at 0; without it z = f.

    P (C, M) starts at 0, which averages. Learnable values: C M + C².
    Raises (forward): ValueError for texts of other classes.
    Source: RVP, "Reprogramming Vision-Language Models via Structured Prompt Reparameterization", Eq. 3 and 4,
    folded by Eq. 7, with E = 0 at the start. The start of P is not stated there; zeros are ours.
    """

    class_specific = True

    def __init__(self, classes: int, descriptions: int, residual: bool = True) -> None:
        super().__init__()
        self.within = nn.Parameter(torch.zeros(classes, descriptions))
        self.between = nn.Parameter(torch.zeros(classes, classes)) if residual else None

    def forward(self, similarity: Tensor, texts: TextBatch, image_embedding: Tensor) -> Tensor:
        self._check(texts)
        votes = torch.einsum("bcm,cm->bc", own_scores(similarity, texts), self.within.softmax(dim=-1))
        return votes if self.between is None else votes + votes @ self.between

    def fold(self, text_features: Tensor, texts: TextBatch, views: int) -> Tensor:
        self._check(texts)
        weight = self.within.double().softmax(dim=-1)
        prototypes = weighted_prototypes(weight, text_features, texts, views)  # (V, C, D)
        if self.between is None:
            return prototypes
        return prototypes + self.between.to(prototypes.dtype).T @ prototypes

    def _check(self, texts: TextBatch) -> None:
        if texts.blocks.shape != self.within.shape:
            raise ValueError(
                f"RVPHead: it weighs {self.within.shape[1]} descriptions of each of {self.within.shape[0]} classes, "
                f"but the texts are {texts.blocks.shape[1]} for each of {texts.blocks.shape[0]}. "
                "Its matrices cannot speak of other classes; train it for them."
            )
