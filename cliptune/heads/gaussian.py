"""Gaussian discriminant analysis of training images beside the texts."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from cliptune.heads.base import Head
from cliptune.texts import TextBatch

# Values of α that are tried, as released.
ALPHAS = (1e-4, 1e-3, 1e-2, 0.1, 1.0, 10.0, 100.0)
FOLDS = 5
# The trace of a covariance below which unit features are equal but for rounding.
TINY = 1e-12
# New classes: training features nearest to a class's text, and copies of the text that count beside them, as released.
NEAREST, COPIES = 64, 16
# Features (N, V, D) unit, votes of the texts (N, C), labels (N,).
Seen = tuple[Tensor, Tensor, Tensor]


class GaussianHead(Head):
    """logits = s · f̂ T̂ᵀ + α (f̂ Wᵀ + b), with w_c = Σ̂⁻¹ μ_c and b_c = log 1/C − ½ μ_cᵀ Σ̂⁻¹ μ_c.

    Every class is a Gaussian of unit image features f̂ around its mean μ_c; all share one covariance. Its inverse is the
    ridge-type estimate Σ̂⁻¹ = D ((n − 1) S + tr(S) I)⁻¹ of n features, S their covariance around the class means; it
    exists from few images, also of fewer than D.

    Args:
        classes: C. width: D.
        alpha: α > 0, weight of the Gaussians beside the texts; None chooses among `ALPHAS`, the first of the best.
        search: choose on the validation images, if there are any; else by cross-validation on the training images, in
            at most five parts, or 1 where no class has two of them.

    Call order: `observe` for all training (and validation) images, then `refit`. A class without training images has
    the mean of all features, so that the texts decide for it. Where no two features of one class differ, as with one
    image each, the covariance of all features stands in for S; there the release lets the texts answer alone.
    Computed in float64.

    Other classes: where all are trained ones, theirs are picked. Else every class t is given the mean of its 64 nearest
    training features and 16 copies of t, and all share the mean of the inverses D (R + tr(R) / 63 I)⁻¹, where R is the
    scatter of those 64 features around t. Of fewer than 64 features, all are taken.
    Source: GDA (arXiv:2402.04087), with the covariances of its release (main_few_shots.py, main_base2new.py). The
        choice of α without validation images is ours, and so is the shrunk covariance of trained classes
        in base-to-new runs, where the release leaves it as it is.
    """

    in_embedding_space = True
    growing = frozenset({"features"})
    weight: Tensor
    bias: Tensor
    alpha: Tensor
    features: Tensor
    # The other classes asked about last. In a tuple, so that they are no part of this head.
    _others: tuple[Tensor, tuple[int, ...], GaussianHead] | None

    def __init__(self, classes: int, width: int, alpha: float | None = None, search: bool = False) -> None:
        super().__init__()
        if alpha is not None and not alpha > 0:
            raise ValueError(f"GaussianHead: alpha must be above 0, got {alpha}. Use zeroshot for the texts alone.")
        if alpha is not None and search:
            raise ValueError(f"GaussianHead: alpha is {alpha} and cannot be searched as well. Leave one of them out.")
        self.classes, self.chooses, self.search = classes, alpha is None, search
        self.register_buffer("weight", torch.zeros(classes, width))
        self.register_buffer("bias", torch.zeros(classes))
        self.register_buffer("alpha", torch.tensor(1.0 if alpha is None else float(alpha)))
        # Of the training images, (n, D): new classes are made of them.
        self.register_buffer("features", torch.zeros(0, width))
        self._forget()

    def forward(self, similarity: Tensor, texts: TextBatch, image_embedding: Tensor) -> Tensor:
        feature = F.normalize(image_embedding, dim=-1).to(self.weight.dtype)
        return similarity.mean(dim=1) + self.alpha * (feature @ self.weight.T + self.bias).mean(dim=1)

    def observe(self, out: Any, labels: Tensor, split: str = "train") -> None:
        """Every view (B, V) of `out.image_embedding` is a feature of its own."""
        feature = F.normalize(out.image_embedding.double(), dim=-1).cpu()
        self._seen[split].append((feature, out.similarity.mean(dim=1).double().cpu(), labels.cpu()))

    def refit(self) -> None:
        """Fit to what was observed. Raises: ValueError if no training image was."""
        if not self._seen["train"]:
            raise ValueError("GaussianHead: nothing to fit, because no training image was observed.")
        train = _joined(self._seen["train"])
        weight, bias = self._discriminants(train)
        self.weight.copy_(weight)
        self.bias.copy_(bias)
        self.features = train[0].flatten(0, 1).to(self.weight)
        if self.chooses and self.search and self._seen["val"]:
            held = _joined(self._seen["val"])
            self.alpha.fill_(_best([(_said(held, weight, bias), held)]))
            self.chosen = {"images": len(held[2]), "chose": {"α": float(self.alpha)}}
        elif self.chooses:
            self.alpha.fill_(self._cross_validated(train))
            self.say(f"α was left out and is {float(self.alpha):.4g}, by cross-validation on the training images")
        self._forget()

    def grow(self, shapes: Mapping[str, torch.Size]) -> None:
        """Make room for the features of another number of images."""
        self.features = self.features.new_zeros(shapes["features"])
        self._forget()

    def for_classes(self, text_features: Tensor, places: tuple[int, ...]) -> GaussianHead:
        """Gaussians of other classes. Raises: ValueError if texts depend on the image."""
        if self._others is not None and self._others[0] is text_features and self._others[1] == places:
            return self._others[2]
        if len(text_features) != 1:
            raise ValueError(
                "GaussianHead: other classes are made of texts that do not depend on the image. Use a prompt without a "
                "condition."
            )
        other = GaussianHead(len(places), self.weight.shape[1], float(self.alpha)).to(self.weight.device)
        if min(places) >= 0:
            weight, bias = self.weight[list(places)], self.bias[list(places)]
        else:
            weight, bias = _synthesised(self.features.double().cpu(), text_features[0].detach().double().cpu())
        other.weight.copy_(weight)
        other.bias.copy_(bias)
        self._others = (text_features, places, other)
        return other

    def _cross_validated(self, train: Seen) -> float:
        """The α that answers best for images that were left out, a part of each class at a time."""
        place = _place_in_class(train[2])
        parts = min(FOLDS, int(place.max()) + 1)
        if parts < 2:
            return 1.0
        answers = []
        for part in range(parts):
            out = place % parts == part
            held = _some(train, out)
            answers.append((_said(held, *self._discriminants(_some(train, ~out))), held))
        return _best(answers)

    def _discriminants(self, seen: Seen) -> tuple[Tensor, Tensor]:
        feature, _, labels = seen
        return _discriminants(feature.flatten(0, 1), labels.repeat_interleave(feature.shape[1]), self.classes)

    def _forget(self) -> None:
        self._seen: dict[str, list[Seen]] = {"train": [], "val": []}
        self._others = None


def _joined(batches: list[Seen]) -> Seen:
    feature, votes, labels = (torch.cat(parts) for parts in zip(*batches, strict=True))
    return feature, votes, labels


def _some(seen: Seen, chosen: Tensor) -> Seen:
    feature, votes, labels = seen
    return feature[chosen], votes[chosen], labels[chosen]


def _said(seen: Seen, weight: Tensor, bias: Tensor) -> Tensor:
    """What the Gaussians say of the images, (N, C)."""
    return (seen[0] @ weight.T + bias).mean(dim=1)


def _best(answers: list[tuple[Tensor, Seen]]) -> float:
    def correct(alpha: float) -> int:
        return sum(int(((votes + alpha * said).argmax(-1) == labels).sum()) for said, (_, votes, labels) in answers)

    return max(ALPHAS, key=correct)


def _place_in_class(labels: Tensor) -> Tensor:
    """0 for the first image of each class, 1 for the second, …; (N,)."""
    order = labels.argsort(stable=True)
    count = labels.bincount()
    place = torch.empty_like(labels)
    place[order] = torch.arange(len(labels)) - (count.cumsum(0) - count)[labels[order]]
    return place


def _discriminants(feature: Tensor, labels: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    """Features (n, D) unit, labels (n,) → weight (C, D), bias (C,)."""
    n, width = feature.shape
    count = torch.bincount(labels, minlength=classes)
    means = feature.new_zeros(classes, width).index_add(0, labels, feature) / count.clamp(min=1)[:, None]
    means[count == 0] = feature.mean(dim=0)
    for around in (means[labels], feature.mean(dim=0)):
        scatter = (feature - around).T @ (feature - around)  # (n − 1) S
        trace = scatter.trace() / max(n - 1, 1)
        if trace > TINY:
            ridge = scatter + trace * torch.eye(width, dtype=feature.dtype)
            return _classifier(means, width * torch.linalg.inv(ridge))
    return _classifier(means, torch.zeros_like(scatter))


def _classifier(means: Tensor, precision: Tensor) -> tuple[Tensor, Tensor]:
    """Means (C, D), Σ̂⁻¹ (D, D) → weight (C, D), bias (C,), with equal priors."""
    weight = means @ precision
    return weight, -math.log(len(means)) - (weight * means).sum(dim=1) / 2


def _synthesised(feature: Tensor, texts: Tensor) -> tuple[Tensor, Tensor]:
    """Training features (n, D) and texts (C, D) of new classes, unit → weight (C, D), bias (C,)."""
    classes, width = texts.shape
    k = min(NEAREST, len(feature))
    near = (texts @ feature.T).topk(k, dim=1).indices  # (C, k)
    means = (feature[near].sum(dim=1) + COPIES * texts) / (k + COPIES)
    precision = feature.new_zeros(width, width)
    for text, chosen in zip(texts, near, strict=True):  # one at a time: (C, k, D) would be large
        apart = feature[chosen] - text
        scatter = apart.T @ apart
        trace = scatter.trace() / max(k - 1, 1)
        if trace > TINY:
            precision += width * torch.linalg.inv(scatter + trace * torch.eye(width, dtype=feature.dtype)) / classes
    return _classifier(means, precision)
