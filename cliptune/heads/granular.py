"""Votes of a hierarchy of classes over the whole image, and of crops weighted by how sure they are."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from cliptune.heads.base import Head
from cliptune.heads.nearest import NearestHead
from cliptune.texts import TextBatch

# Below any weight that an entropy can give in float32: keeps the quotient of what is not used finite.
TINY = 1e-12


class GranularHead(Head):
    """z = (1 − λ) z^VG + λ z^SG, of the views of `GranularFrame`.

    A view's votes (C,) are the mean of the k largest similarities with each class's descriptions. With z the votes of
    view 0 and z^(l) the similarities of view l with the texts of the superclasses s of level l,

        z^SG[c] = 1/L Σ_l z^(l)[s_l(c)] · softmax(z)[c]        expanded, redistributed, aggregated

    and z^VG is the mean over the scales of Σ_j ŵ_j z^(j) over the crops j of a scale, with ŵ_j ∝ max(0, H_0 − H_j) and
    H_j the entropy of softmax(z^(j)). Where no crop of an image is below H_0, all count alike. The weights take no
    gradient.

    `observe` collects the images' features as the zero-shot CLIP sees them (batches of one view; others pass by), and
    `refit` groups the classes by the means p_c of theirs: see `agglomerated`. Level l has about C^(1 − l / (L + 1))
    superclasses, not fewer than 2. A class without training images stands at the mean of the other prototypes. Until
    then every class is a superclass of its own.

    Args:
        classes: C. levels: L ≥ 0; without levels z^SG is z. scales: E ≥ 0; without scales z^VG is left out.
        crops: per scale.
        weight: λ in [0, 1]. threshold: H_0 as a share of ln C, in (0, 1].
        nearest: k; None averages all descriptions.
    Raises: ValueError for values out of range, or (forward) for texts or views that do not fit.
    Source: DGA (CVPR 2026, pp. 29347-29356). Prototypes of unit features, the sizes of the levels, the text of a
        superclass (the mean of the unit texts of its members, normalised again), k, the mean over the scales, H_0, even
        weights where no crop is sure, and weights without gradient are ours. The rule takes positive similarities for
        granted: below 0, a surer class would get less.
    """

    member: Tensor
    length: Tensor
    _sums: Tensor | None
    _images: Tensor

    def __init__(
        self,
        classes: int,
        levels: int = 2,
        scales: int = 2,
        crops: int = 4,
        weight: float = 0.7,
        threshold: float = 0.5,
        nearest: int | None = 3,
    ) -> None:
        super().__init__()
        if not 0 <= weight <= 1:
            raise ValueError(f"GranularHead: weight must be the share of the hierarchy, in [0, 1], got {weight}.")
        if not 0 < threshold <= 1:
            raise ValueError(f"GranularHead: threshold must be a share of ln C, in (0, 1], got {threshold}.")
        self.levels, self.scales, self.crops = levels, scales, crops
        self.weight, self.threshold = weight, threshold
        self.votes = NearestHead(nearest)
        self.class_specific = levels > 0
        self.sizes = level_sizes(classes, levels)
        if len(set(self.sizes)) < levels or classes in self.sizes:
            self.notes = (
                f"GranularHead: {classes} classes are few for {levels} levels of superclasses, which have "
                f"{', '.join(map(str, self.sizes))}. Levels that are alike say the same.",
            )
        # Superclass of each class at each level, (L, C).
        self.register_buffer("member", torch.arange(classes).repeat(levels, 1))
        # Of the sum of a superclass's unit texts; 0 until it is known.
        self.register_buffer("length", torch.zeros(levels, classes))
        self._forget()

    @property
    def settled(self) -> bool:  # type: ignore[override]
        return bool((self.length > 0).all())

    @torch.no_grad()
    def settle(self, text_features: Tensor, texts: TextBatch) -> None:
        """Learn the lengths of the superclasses' texts. Raises: ValueError if texts depend on the image."""
        if len(text_features) != 1:
            raise ValueError(
                "GranularHead: superclasses are given the mean text of their members, which must not depend on the "
                "image. Use a prompt without a condition."
            )
        self._check(texts)
        own = text_features[0].float()[texts.blocks].sum(dim=1)  # (C, D)
        length = (self._among().to(own) @ own).norm(dim=-1)
        # Numbers that no class has are never asked for.
        self.length.copy_(torch.where(self._among().any(dim=-1), length.clamp_min(TINY), torch.ones_like(length)))

    def forward(self, similarity: Tensor, texts: TextBatch, image_embedding: Tensor) -> Tensor:
        self._check(texts)
        views, whole = similarity.shape[1], 1 + self.levels
        if views not in (1, whole + self.scales * self.crops):
            raise ValueError(
                f"GranularHead: an image must have 1 or {whole + self.scales * self.crops} views, got {views}. "
                "Use the prompt of as many levels, scales and crops."
            )
        semantic = self._semantic(similarity, texts, image_embedding)
        if views == whole or views == 1:
            return semantic
        crops = similarity[:, whole:]
        votes = self.votes(crops.flatten(0, 1)[:, None], texts, image_embedding)
        shape = (-1, self.scales, self.crops, votes.shape[-1])
        visual = sure(votes.view(shape), self.threshold).mean(dim=1)
        return (1 - self.weight) * visual + self.weight * semantic

    def level_logits(self, similarity: Tensor, texts: TextBatch) -> Tensor:
        """Similarities (B, V, K) → of the superclasses of each level with their own view, (B, L, C).

        Places from the number of superclasses on hold −∞. Where there is one view, all look at it.
        """
        own = similarity[:, 1 : 1 + self.levels] if similarity.shape[1] > 1 else similarity
        sums = own[..., texts.blocks].sum(dim=-1).expand(-1, self.levels, -1)  # (B, L, C)
        among = self._among()
        scores = torch.einsum("lsc,blc->bls", among.to(sums), sums) / self.length
        return scores.masked_fill(~among.any(dim=-1), -math.inf)

    def observe(self, out: Any, labels: Tensor, split: str = "train") -> None:
        known = labels >= 0
        if not self.levels or split != "train" or out.image_features.shape[1] != 1 or not bool(known.any()):
            return
        feature = out.image_features[known, 0].double().cpu()
        labels = labels[known].cpu()
        classes = self.member.shape[1]
        if self._sums is None:
            self._sums = feature.new_zeros(classes, feature.shape[1])
        self._sums.index_add_(0, labels, feature)
        self._images += torch.bincount(labels, minlength=classes)

    def refit(self) -> None:
        """Group the classes by the images seen since the last time; without any, the groups stay."""
        if self._sums is None:
            return
        seen = self._images > 0
        if not bool(seen.all()):
            self.say(
                f"{int((~seen).sum())} of {len(seen)} classes have no training images and stand between the others in "
                "the hierarchy"
            )
        prototypes = self._sums / self._images.clamp_min(1)[:, None]
        prototypes[~seen] = prototypes[seen].mean(dim=0)
        self.member.copy_(agglomerated(prototypes, self.sizes))
        self.length.zero_()  # of other superclasses from now on
        self._forget()

    def _semantic(self, similarity: Tensor, texts: TextBatch, image_embedding: Tensor) -> Tensor:
        votes: Tensor = self.votes(similarity[:, :1], texts, image_embedding)
        if not self.levels:
            return votes
        scores = self.level_logits(similarity, texts)
        # Not `len`, which would fix the number of images of an export.
        expanded = scores.gather(-1, self.member.expand(scores.shape[0], -1, -1))
        return expanded.mean(dim=1) * votes.softmax(dim=-1)

    def _among(self) -> Tensor:
        """(L, C, C) bool: is class c a member of superclass s of level l, at [l, s, c]?"""
        return self.member[:, None] == torch.arange(self.member.shape[1], device=self.member.device)[:, None]

    def _check(self, texts: TextBatch) -> None:
        if self.levels and texts.classes != self.member.shape[1]:
            raise ValueError(
                f"GranularHead: its hierarchy is of {self.member.shape[1]} classes, but the texts are of "
                f"{texts.classes}. A hierarchy cannot speak of other classes; train one for them."
            )

    def _forget(self) -> None:
        self._sums = None
        self._images = torch.zeros(self.member.shape[1], dtype=torch.int64)


def sure(votes: Tensor, threshold: float) -> Tensor:
    """Votes of n views (…, n, C) → their mean (…, C) with weights ∝ max(0, H_0 − H), even where all are 0.

    Args: threshold: H_0 as a share of the largest entropy, ln C.
    """
    log_p = votes.detach().log_softmax(dim=-1)
    entropy = -(log_p.exp() * log_p).sum(dim=-1, keepdim=True)  # (…, n, 1)
    weight = (threshold * math.log(max(2, votes.shape[-1])) - entropy).clamp_min(0)
    total = weight.sum(dim=-2, keepdim=True)
    even = torch.full_like(weight, 1 / votes.shape[-2])
    return (torch.where(total > 0, weight / total.clamp_min(TINY), even) * votes).sum(dim=-2)


def level_sizes(classes: int, levels: int) -> list[int]:
    """Superclasses of levels 1 … L, about C^(1 − l / (L + 1)) and at least 2: even steps of a logarithm from C to 1."""
    return [min(classes, max(2, round(classes ** (1 - level / (levels + 1))))) for level in range(1, levels + 1)]


def agglomerated(prototypes: Tensor, sizes: list[int]) -> Tensor:
    """Bottom-up clustering: the two clusters whose prototypes are nearest become one, until as many are left.

    The prototype of a cluster is the mean of those of its classes (centroid linkage); distances are Euclidean.

    Args: prototypes (C, D). sizes: numbers of clusters that are asked for, falling.
    Returns: (len(sizes), C) int64, cluster of each class, numbered by their first class.
    """
    centre, count = prototypes.double().clone(), torch.ones(len(prototypes), dtype=torch.float64)
    cluster = torch.arange(len(prototypes))
    # Differences, not inner products: unit features lie near each other.
    distance = torch.cdist(centre, centre, compute_mode="donot_use_mm_for_euclid_dist")
    distance.fill_diagonal_(math.inf)
    kept, left = [], len(prototypes)
    for size in sizes:
        while left > size:
            first, second = sorted(divmod(int(distance.argmin()), len(prototypes)))
            total = count[first] + count[second]
            centre[first] = (count[first] * centre[first] + count[second] * centre[second]) / total
            count[first] = total
            cluster[cluster == second] = first
            distance[second] = distance[:, second] = math.inf
            apart = (centre - centre[first]).norm(dim=-1)
            apart[distance[first].isinf()] = math.inf
            distance[first] = distance[:, first] = apart
            left -= 1
        kept.append(cluster.unique(return_inverse=True)[1])
    return torch.stack(kept) if kept else cluster.new_zeros(0, len(prototypes))
