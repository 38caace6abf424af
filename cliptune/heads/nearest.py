"""The descriptions nearest to the image speak for a class."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from cliptune.heads.base import Head
from cliptune.heads.descriptions import own_scores, weighted_prototypes
from cliptune.texts import TextBatch


class NearestHead(Head):
    """z[b, c] = Σ_X λ_X · mean of the k largest of { s · x_b · t : t among class c's descriptions of set X }.

    The k are chosen anew for every image at every forward; the gradient flows through the chosen ones.

    Args:
        k: ≥ 1; 1 is the maximum. None, or k as large as the sets, averages, which is linear and can be folded.
        weights: λ_X, one per set of descriptions, in order; empty to take all descriptions as one set.
    Raises (forward): ValueError if the texts have another number of sets.
    Source: AttrVR (arXiv:2501.13982, Sec. 3.2), where λ = (½, ½) for describing and distinguishing attributes, k = 3.
    """

    def __init__(self, k: int | None, weights: Sequence[float] = ()) -> None:
        super().__init__()
        if k is not None and k < 1:
            raise ValueError(f"NearestHead: k must be at least 1, or None to average all, got {k}.")
        self.k, self.weights = k, tuple(weights)

    def forward(self, similarity: Tensor, texts: TextBatch, image_embedding: Tensor) -> Tensor:
        scores = own_scores(similarity, texts)
        return torch.stack(
            [
                weight * scores[..., members].topk(self._count(members), dim=-1).values.mean(dim=-1)
                for weight, members in self._sets(texts)
            ]
        ).sum(dim=0)

    def fold(self, text_features: Tensor, texts: TextBatch, views: int) -> Tensor:
        sets = self._sets(texts)
        if any(self._count(members) < len(members) for _, members in sets):
            raise ValueError(
                f"NearestHead: which {self.k} descriptions are nearest depends on the image, so there is no one "
                "matrix to fold into. With k=None all are averaged, and that folds."
            )
        weight = text_features.new_zeros(texts.blocks.shape)
        for share, members in sets:
            weight[:, members] = share / len(members)
        return weighted_prototypes(weight, text_features, texts, views)

    def _count(self, members: Sequence[int]) -> int:
        return len(members) if self.k is None else min(self.k, len(members))

    def _sets(self, texts: TextBatch) -> list[tuple[float, list[int]]]:
        """(λ, columns among a class's M descriptions) of each set."""
        if not self.weights:
            return [(1.0, list(range(texts.blocks.shape[1])))]
        found = len(texts.set_columns)
        if found != len(self.weights):
            raise ValueError(
                f"NearestHead: there are {len(self.weights)} weights for {found} sets of descriptions. "
                "Give one weight per set."
            )
        return [(weight, list(columns)) for weight, columns in zip(self.weights, texts.set_columns, strict=True)]
