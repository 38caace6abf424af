"""What a logistic regression's curvature is like, cheaper than itself: preconditioners of its Newton steps."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

# Classes up to which a product knows how classes are mixed up; its cost grows with their cube.
MIXED = 2048
# Numbers that all classes' own curvatures may have together; their inverses take twice as many bytes, and as long to
# read as some products with the images.
OWN = 2**25
# Images of which a class's own curvature is made; of all others it has its share of what they have on average.
IMAGES = 1024
# Images whose features are copied at a time.
ROWS = 2**14
# By how much the penalty may differ from that of an inverse which is used for it.
REUSED = 4.0
# Added to each diagonal, as a share of it, and tenfold until there is an inverse: sums in float32 round by that much.
RIDGE, TRIES = 1e-6, 12

Eased = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""A residual in W (D, C) and b (C,) → the step that it calls for, by an approximate inverse of the curvature."""
Unsure = Callable[[], Iterator[tuple[slice, Tensor, Tensor]]]
"""Chunks of images: rows, probabilities p (n, C), and p (1 − p), of the right class with its relative precision."""


@dataclass(frozen=True)
class Shared:
    """Curvature as a product, A (D, D) ⊗ B (C, C): the covariance of the features × how classes are mixed up.

    Both are weighted by what is not yet certain. Of more than `MIXED` classes, B's diagonal alone is known.

    Args:
        weight: W (D, C) at which it was looked at.
        a: (D,) eigenvalues, v: (D, D) eigenvectors of A. b, q: of B, or its diagonal and None.
    """

    weight: Tensor
    a: Tensor
    v: Tensor
    b: Tensor
    q: Tensor | None

    @classmethod
    def of(cls, weight: Tensor, feature: Tensor, unsure: Unsure) -> Shared:
        """At W (D, C), of features (N, D) float32."""
        (width, classes), whole = weight.shape, weight.shape[1] <= MIXED
        spread = weight.new_zeros(width, width)
        mixed = weight.new_zeros((classes, classes) if whole else (classes,))
        for rows, p, open_ in unsure():
            x = feature[rows]
            spread += (x.T @ (open_.sum(dim=1, keepdim=True) * x)).double()
            mixed += (p.T @ p if whole else open_.sum(dim=0)).double() / len(feature)
        if whole:
            mixed = torch.diag(mixed.fill_diagonal_(0).sum(dim=0)) - mixed
            b, q = torch.linalg.eigh(mixed)
        else:
            b, q = mixed, None
        a, v = torch.linalg.eigh(spread / b.sum().clamp_min(1e-300) / len(feature))
        return cls(weight, a.clamp_min(0), v, b.clamp_min(float(b.max()) * 1e-9 + 1e-300), q)

    def eased(self, penalty: float, damping: float = 0.0) -> Eased:
        """(A ⊗ B + penalty + damping)⁻¹ for weights and (B + damping)⁻¹ for biases."""
        v, b, q, stiff = self.v, self.b, self.q, self.a[:, None] * self.b + penalty + damping
        held = b + damping

        def ease(weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
            if q is None:
                return _level(v @ ((v.T @ weight) / stiff), bias / held)
            return _level(v @ ((v.T @ weight @ q) / stiff) @ q.T, (bias @ q / held) @ q.T)

        return ease


@dataclass
class Own:
    """Curvature by class, (D + 1, D + 1) each: that of its weights and its bias while all other classes stay.

    Where classes differ in what tells them apart, as embeddings of a trained tower do, this is far nearer to the whole
    than a product is: ten steps of conjugate gradients do what takes several hundred with `Shared`.

    Args:
        weight: W (D, C) at which it was looked at.
        curvature: (C, D + 1, D + 1) float32, without the penalty.
        penalty: and damping together, of which `inverse` (C, D + 1, D + 1) float64 is kept.
    """

    weight: Tensor
    curvature: Tensor
    penalty: float = 0.0
    inverse: Tensor | None = field(default=None, repr=False)

    @staticmethod
    def fits(width: int, classes: int) -> bool:
        """Whether it is small enough for features of D = `width`."""
        return classes * max((width + 1) ** 2, 4 * IMAGES) <= OWN

    @classmethod
    def of(cls, weight: Tensor, feature: Tensor, unsure: Unsure) -> Own:
        """At W (D, C), of features (N, D) float32."""
        (width, classes), images = weight.shape, len(feature)
        whole, by_image = weight.new_zeros(classes), []
        values = feature.new_empty(0, classes)
        places = torch.empty(0, classes, dtype=torch.int64, device=feature.device)
        for rows, _, open_ in unsure():
            whole += open_.sum(dim=0).double()
            by_image.append(open_.sum(dim=1))
            place = torch.arange(rows.start, rows.start + len(open_), device=open_.device)[:, None].expand_as(open_)
            open_, place = torch.cat([values, open_]), torch.cat([places, place])
            values, order = open_.topk(min(IMAGES, len(open_)), dim=0)
            places = place.gather(0, order)
        left = torch.cat(by_image).scatter_add_(0, places.flatten(), -values.flatten()).clamp_min_(0)
        average = feature.new_zeros(width + 1, width + 1)
        for part, share in zip(feature.split(ROWS), left.split(ROWS), strict=True):
            x = _with_one(part)
            average += x.T @ (share[:, None] * x)
        average /= left.sum().clamp_min(1e-30)
        rest = (whole - values.sum(dim=0).double()).clamp_min(0).tolist()
        curvature = feature.new_empty(classes, width + 1, width + 1)
        for own in range(classes):
            x = _with_one(feature[places[:, own]]) * values[:, own, None].sqrt()
            torch.mm(x.T, x, out=curvature[own])
            curvature[own].add_(average, alpha=rest[own])
        return cls(weight, curvature.div_(images))

    def eased(self, penalty: float, damping: float = 0.0) -> Eased:
        """The inverse for each class, with the penalty on its weights and the damping on its bias as well.

        Or one for a sum of both that is not far from theirs.
        """
        whole = penalty + damping
        if self.inverse is None or not 1 / REUSED <= self.penalty / whole <= REUSED:
            self.inverse = None  # before there is another
            self.inverse, self.penalty = self._inverted(whole, damping), whole
        inverse = self.inverse

        def ease(weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
            step = torch.bmm(inverse, torch.cat([weight, bias[None]]).T[:, :, None])[:, :, 0].T
            return _level(step[:-1], step[-1])

        return ease

    def _inverted(self, penalty: float, damping: float) -> Tensor:
        inverse = torch.empty_like(self.curvature, dtype=torch.float64)
        for own, curvature in enumerate(self.curvature):
            stiff = curvature.double()
            diagonal = stiff.diagonal()
            ridge = RIDGE * diagonal + 1e-300
            diagonal[:-1] += penalty
            diagonal[-1] += damping
            for _ in range(TRIES):
                diagonal += ridge
                factor, failed = torch.linalg.cholesky_ex(stiff)
                if not failed:
                    break
                ridge = 10 * ridge
            else:
                raise ValueError(
                    f"LogisticRegression: the curvature of class {own} has no inverse, because sums of squared "
                    "features leave float32. Divide the features by their norm."
                )
            inverse[own] = torch.cholesky_inverse(factor)
        return inverse


def _with_one(x: Tensor) -> Tensor:
    return torch.cat([x, x.new_ones(len(x), 1)], dim=1)


def _level(weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    # A shift of all classes together changes no probability: rounding must not build one up.
    return weight - weight.mean(dim=1, keepdim=True), bias - bias.mean()
