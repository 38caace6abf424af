"""A cache of training images that votes beside the texts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cliptune.heads.base import Head, check_finite
from cliptune.heads.keys import by_class, nearness
from cliptune.texts import TextBatch

# Values tried of β and of α, as released.
STEPS_BETA, STEPS_ALPHA = 200, 20
SMALLEST = 0.1
# Affinities, of validation images with keys, that are held together.
CHUNK = 2**23
# Values of β after which exponentials are computed anew; those between are products, each with a rounding of its own.
FRESH = 10
# Logits that are looked at together, for every α: they stay in a core's own memory.
PIECE = 2**17


class CacheHead(Head):
    """logits = s · f̂ T̂ᵀ + α · exp(−β (1 − f̂ Kᵀ)) L: keys K (M, D) of training images, values L (M, C) their labels.

    Args:
        classes: C. width: D.
        alpha: α > 0, weight of the cache. beta: β > 0, how sharply it looks.
        learn: the keys learn by gradient (Tip-Adapter-F). They are then no longer unit.
        largest: (α, β) up to which both are searched on validation images, if there are any; None keeps those given.

    Call order: `observe` for all training images, `refit`; `observe` for all validation images, `refit`, in the same
    or another stage. In training mode nothing is observed. How many keys there are is a matter of the data.
    Source: Tip-Adapter (arXiv:2207.09519, Eq. 3 to 6).
    """

    class_specific = True
    in_embedding_space = True
    growing = frozenset({"keys", "labels"})
    keys: Tensor
    labels: Tensor
    alpha: Tensor
    beta: Tensor

    def __init__(
        self,
        classes: int,
        width: int,
        alpha: float,
        beta: float,
        learn: bool = False,
        largest: tuple[float, float] | None = None,
    ) -> None:
        super().__init__()
        if not (alpha > 0 and beta > 0):
            raise ValueError(f"CacheHead: alpha and beta must be above 0, got {alpha} and {beta}.")
        if largest is not None and min(largest) <= SMALLEST:
            raise ValueError(f"CacheHead: alpha and beta are searched from {SMALLEST} on, got maxima {largest}.")
        self.classes, self.learn, self.largest = classes, learn, largest
        self._set_keys(torch.zeros(0, width))
        self.register_buffer("labels", torch.zeros(0, dtype=torch.int64))
        self.register_buffer("alpha", torch.tensor(float(alpha)))
        self.register_buffer("beta", torch.tensor(float(beta)))
        self._forget()

    def forward(self, similarity: Tensor, texts: TextBatch, image_embedding: Tensor) -> Tensor:
        votes = similarity.mean(dim=1)
        if not len(self.keys):
            return votes
        near = nearness(F.normalize(image_embedding, dim=-1), self.keys, self.beta)
        return votes + self.alpha * by_class(near, self.labels, self.classes).mean(dim=1)

    def observe(self, out: Any, labels: Tensor, split: str = "train") -> None:
        """Training images: `out.image_embedding`, averaged over their views, becomes a key. Others: to search on."""
        if not self.training:
            self._seen[split].append((out.image_embedding.mean(dim=1), out.similarity.mean(dim=1), labels))

    def refit(self) -> None:
        """Make keys of the training images that were seen; search α and β on the validation images that were."""
        if self._seen["train"]:
            embedding, _, labels = (torch.cat(parts) for parts in zip(*self._seen["train"], strict=True))
            check_finite(embedding, "train", "CacheHead")
            self._set_keys(F.normalize(embedding.to(self.keys), dim=-1))
            self.labels = labels
        if self._seen["val"] and self.largest is not None and len(self.keys):
            embedding, votes, labels = (torch.cat(parts) for parts in zip(*self._seen["val"], strict=True))
            self._search(embedding, votes, labels, self.largest)
        self._forget()

    def _search(self, embedding: Tensor, votes: Tensor, labels: Tensor, largest: tuple[float, float]) -> None:
        """The first of the best pairs on a grid, every affinity of (N, D) embeddings being computed once.

        Beside what was seen, three float32 numbers for each of at most `CHUNK` affinities and a few for each image and
        class of a chunk are held: 100 MB and 6 MB at 16,000 keys of 1,000 classes, however many images.
        """
        check_finite(embedding, "val", "CacheHead")
        if len(labels) < self.classes:
            self.say(
                f"α and β are searched on {len(labels)} validation images, fewer than the {self.classes} classes: many "
                "values will do equally well, of which the smallest β, then the smallest α is taken"
            )
        alphas, betas = _grid(largest[0], STEPS_ALPHA), _grid(largest[1], STEPS_BETA)
        right = torch.zeros(len(betas), len(alphas), dtype=torch.int64, device=labels.device)
        rows = max(1, CHUNK // len(self.keys))
        for i in range(0, len(labels), rows):
            part = slice(i, i + rows)
            self._count(right, F.normalize(embedding[part], dim=-1), votes[part], labels[part], alphas, betas)
            done = min(i + rows, len(labels))
            told = f"tried α and β on {done} of {len(labels)} validation images"
            self.say(told, minor=True, share=done / len(labels))
        beta, alpha = divmod(int(right.argmax()), len(alphas))
        self.alpha.fill_(alphas[alpha])
        self.beta.fill_(betas[beta])
        self.chosen = {"images": len(labels), "chose": {"α": alphas[alpha], "β": betas[beta]}}

    def _count(
        self, right: Tensor, feature: Tensor, votes: Tensor, labels: Tensor, alphas: list[float], betas: list[float]
    ) -> None:
        """Add to `right` (betas, alphas) how many images each pair takes for what they are."""
        distance = 1 - self.keys.detach() @ feature.T  # (M, n): whole rows are added up by class
        # The grid is even, so exp(−(β + δ) d) = exp(−β d) · exp(−δ d): a product in place of an exponential.
        shrink = (distance * (betas[0] - betas[1])).exp_()
        pull = torch.empty_like(distance)
        for row, beta in enumerate(betas):
            if row % FRESH:
                pull *= shrink
            else:
                torch.mul(distance, -beta, out=pull).exp_()
            cache = distance.new_zeros(self.classes, len(labels)).index_add_(0, self.labels, pull).T.contiguous()
            right[row] += _right(votes, cache, labels, alphas)

    def grow(self, shapes: Mapping[str, torch.Size]) -> None:
        """Make room for a cache of another number of images. Raises: ValueError if keys and labels differ in it."""
        if shapes["keys"][0] != shapes["labels"][0]:
            raise ValueError(
                f"CacheHead: {shapes['keys'][0]} keys need as many labels, got {shapes['labels'][0]}. "
                "The checkpoint is damaged."
            )
        self._set_keys(self.keys.new_zeros(shapes["keys"]))
        self.labels = self.labels.new_zeros(shapes["labels"])

    def _set_keys(self, keys: Tensor) -> None:
        if self.learn:
            self.keys = nn.Parameter(keys.detach().clone())
        else:
            self.register_buffer("keys", keys.detach().clone())

    def _forget(self) -> None:
        self._seen: dict[str, list[tuple[Tensor, Tensor, Tensor]]] = {"train": [], "val": []}


def _grid(largest: float, steps: int) -> list[float]:
    return [SMALLEST + i * (largest - SMALLEST) / steps for i in range(steps)]


def _right(votes: Tensor, cache: Tensor, labels: Tensor, alphas: list[float]) -> Tensor:
    """For each α, how many of the rows of votes + α · cache, both (n, C), are greatest, and first so, at the label."""
    if votes.device.type != "cpu":  # where asking for ties in every piece would wait for the card
        return torch.stack([(torch.add(votes, cache, alpha=a).argmax(dim=1) == labels).sum() for a in alphas])
    right = torch.zeros(len(alphas), dtype=torch.int64)
    rows = max(1, PIECE // votes.shape[1])
    for vote, answer, label in zip(votes.split(rows), cache.split(rows), labels[:, None].split(rows), strict=True):
        for column, alpha in enumerate(alphas):
            logits = torch.add(vote, answer, alpha=alpha)
            own = logits.gather(1, label)
            # A maximum is found several times faster than its place, which only ties ask for.
            others = logits.scatter_(1, label, -torch.inf).amax(dim=1, keepdim=True)
            best, tied = own > others, own == others
            if tied.any():
                best |= tied & (label < logits.argmax(dim=1, keepdim=True))
            right[column] += best.sum()
    return right
