"""The plain vote."""

from __future__ import annotations

import torch
from torch import Tensor

from cliptune.heads.base import Head
from cliptune.texts import TextBatch


class MeanHead(Head):
    """Mean over the views, and over the texts of a class."""

    def forward(self, similarity: Tensor, texts: TextBatch, image_embedding: Tensor) -> Tensor:
        votes = similarity.mean(dim=1)
        if texts.one_vote_each:
            return votes
        voting = texts.class_of >= 0
        owner, votes = texts.class_of[voting], votes[:, voting]
        sums = votes.new_zeros(votes.shape[0], texts.classes).index_add(1, owner, votes)
        return sums / torch.bincount(owner, minlength=texts.classes).to(sums.dtype)

    def fold(self, text_features: Tensor, texts: TextBatch, views: int) -> Tensor:
        """Mean text of each class, for every view alike."""
        # The mean is linear, so it acts on texts as it acts on their similarities.
        means = self(text_features.T[:, None], texts, text_features).T
        return (means / views).expand(views, -1, -1)
