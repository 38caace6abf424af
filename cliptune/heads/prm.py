"""The probabilistic reweighting matrix: descriptions that were near to training images count more."""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from torch import Tensor

from cliptune.heads.base import Head
from cliptune.heads.descriptions import own_scores, weighted_prototypes
from cliptune.texts import TextBatch

Smoothing = float | Literal["auto"]
ENOUGH_SHOTS = 16


class PRMHead(Head):
    """z[b, y] = Σ_a ω[y, a] · s[b, a], where ω[y, a] estimates p(best description = a | class = y).

    Every training image gives k votes, to the k descriptions of its own class that score highest under the present
    patterns. With N[y, a] votes from n_y images, `refit` sets ω[y, a] = (N[y, a] + κ / M) / (k n_y + κ) and starts
    counting anew; κ = 0 is the paper's estimate. ω starts uniform, and stays as it was for a class without images.

    Args:
        classes: C. descriptions: M per class.
        votes: k, 1 ≤ k ≤ M.
        smoothing: κ ≥ 0, the strength of the uniform prior in votes; or "auto": 0 where every class seen has at least
            16 images, else the κ in [1, 10⁴] that makes the counts most likely under a Dirichlet-multinomial.
        groups: None: texts look at the views that they name. A number v: `settle` divides the descriptions into v
            clusters by k-means on their features, and each cluster looks at its own view.
    Raises: ValueError if k does not fit.
    Source: DVP (arXiv:2506.01000, Sec. 4). Smoothing is ours, for few shots.
    """

    class_specific = True
    weight: Tensor
    counts: Tensor
    images: Tensor
    group: Tensor

    def __init__(
        self, classes: int, descriptions: int, votes: int = 3, smoothing: Smoothing = 0.0, groups: int | None = None
    ) -> None:
        super().__init__()
        if not 1 <= votes <= descriptions:
            raise ValueError(
                f"PRMHead: each image votes for 1 to {descriptions} descriptions, as many as a class has, got {votes}. "
                "Use fewer votes or more descriptions."
            )
        if smoothing != "auto" and not (isinstance(smoothing, (int, float)) and smoothing >= 0):
            raise ValueError(f"PRMHead: smoothing must be 'auto' or a number of votes ≥ 0, got {smoothing!r}.")
        if groups is not None and not 1 <= groups <= classes * descriptions:
            raise ValueError(
                f"PRMHead: the {classes * descriptions} descriptions can be divided into 1 to as many groups, "
                f"got {groups}."
            )
        self.votes, self.smoothing, self.groups = votes, smoothing, groups
        self.register_buffer("weight", torch.full((classes, descriptions), 1 / descriptions))
        # Votes since the last estimate: part of a run's state, not of the finished adapter.
        self.register_buffer("counts", torch.zeros(classes, descriptions), persistent=False)
        self.register_buffer("images", torch.zeros(classes), persistent=False)
        if groups is not None:
            # Which view each description looks at, in the order of the texts; −1 until settled.
            self.register_buffer("group", torch.full((classes * descriptions,), -1, dtype=torch.int64))

    @property
    def settled(self) -> bool:  # type: ignore[override]
        return self.groups is None or bool((self.group >= 0).all())

    @torch.no_grad()
    def settle(self, text_features: Tensor, texts: TextBatch) -> None:
        """Cluster the descriptions. Raises: ValueError if texts depend on the image."""
        if self.groups is None:
            return
        if len(text_features) != 1:
            raise ValueError(
                "PRMHead: descriptions are clustered once, by features that do not depend on the image. Use a prompt "
                "without a condition, or one pattern per cause."
            )
        self.group.copy_(clusters(text_features[0], self.groups))

    def view_of(self, texts: TextBatch) -> Tensor:
        """(K,) view that each description looks at."""
        return texts.view_of if self.groups is None else self.group

    def forward(self, similarity: Tensor, texts: TextBatch, image_embedding: Tensor) -> Tensor:
        return torch.einsum("bcm,cm->bc", self._scores(similarity, texts), self.weight)

    def observe(self, out: Any, labels: Tensor, split: str = "train") -> None:
        """Count the votes of training images with a known label."""
        known = labels >= 0
        if split != "train" or not bool(known.any()):
            return
        scores, labels = self._scores(out.similarity, out.texts)[known], labels[known]
        own = scores[torch.arange(len(labels), device=labels.device), labels]  # (b, M)
        chosen = own.topk(self.votes, dim=-1).indices
        ones = torch.ones(len(labels), device=labels.device)
        self.counts.index_put_((labels[:, None].expand_as(chosen), chosen), ones[:, None].expand_as(chosen), True)
        self.images.index_add_(0, labels, ones)

    def refit(self) -> None:
        """Estimate ω from the votes since the last estimate."""
        kappa, m = self._strength(), self.counts.shape[1]
        if self.smoothing == "auto":
            self.say(f"smoothing='auto' is {kappa:.4g} votes of the uniform prior")
        unseen = int((self.images == 0).sum())
        if unseen:
            self.say(f"{unseen} of {len(self.images)} classes have no training images and keep the weights they have")
        estimate = (self.counts + kappa / m) / (self.votes * self.images[:, None] + kappa).clamp_min(1e-12)
        self.weight.copy_(torch.where(self.images[:, None] > 0, estimate, self.weight))
        self.counts.zero_()
        self.images.zero_()

    def fold(self, text_features: Tensor, texts: TextBatch, views: int) -> Tensor:
        self._check(texts)
        return weighted_prototypes(self.weight, text_features, texts, views, self.view_of(texts))

    def _scores(self, similarity: Tensor, texts: TextBatch) -> Tensor:
        self._check(texts)
        return own_scores(similarity, texts, self.view_of(texts))

    def _check(self, texts: TextBatch) -> None:
        if texts.blocks.shape != self.weight.shape:
            raise ValueError(
                f"PRMHead: it weighs {self.weight.shape[1]} descriptions of each of {self.weight.shape[0]} classes, "
                f"but the texts are {texts.blocks.shape[1]} for each of {texts.blocks.shape[0]}. "
                "A reweighting matrix cannot speak of other classes; train one for them."
            )

    def _strength(self) -> float:
        if self.smoothing != "auto":
            return float(self.smoothing)
        seen = self.images > 0
        if not bool(seen.any()) or float(self.images[seen].min()) >= ENOUGH_SHOTS:
            return 0.0
        return likeliest_strength(self.counts[seen])


def likeliest_strength(counts: Tensor) -> float:
    """κ of a symmetric Dirichlet prior, one for all classes, under which the votes (C, M) are most likely.

    Maximises Σ_y [ln Γ(κ) − ln Γ(κ + N_y) + Σ_a (ln Γ(κ/M + N[y, a]) − ln Γ(κ/M))] over 81 values from 1 to 10⁴ on a
    logarithmic grid.
    """
    counts, m = counts.double(), counts.shape[1]
    total = counts.sum(dim=1)

    def evidence(kappa: float) -> float:
        k = torch.tensor(kappa, dtype=torch.float64, device=counts.device)
        cells = (torch.lgamma(k / m + counts) - torch.lgamma(k / m)).sum(dim=1)
        return float((torch.lgamma(k) - torch.lgamma(k + total) + cells).sum())

    return max((10 ** (4 * i / 80) for i in range(81)), key=evidence)


def clusters(features: Tensor, groups: int) -> Tensor:
    """(K, D) → (K,) int64 number of each row's cluster, by k-means from a fixed start."""
    from sklearn.cluster import KMeans

    if groups == 1:
        return torch.zeros(len(features), dtype=torch.int64)
    return torch.as_tensor(KMeans(groups, random_state=0).fit(features.cpu().numpy()).labels_, dtype=torch.int64)


def effective_number(weight: Tensor) -> Tensor:
    """exp of the entropy of each row (C, M): how many descriptions a class really uses, 1 … M."""
    return torch.exp(torch.special.entr(weight).sum(dim=-1)).clamp(1.0, math.inf)
