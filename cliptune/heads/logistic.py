"""Multinomial logistic regression for any strength of its penalty, each fit begun from those of other strengths."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from math import log10

import torch
from torch import Tensor

from cliptune.heads.curvature import Eased, Own, Shared

# Entries of images by classes that are computed together.
CHUNK = 2**22
# Images by classes whose probabilities are kept between two products; of more they are computed again for each.
KEPT = 2**26
# Numbers of centred features up to which they are kept in float64.
WIDE = 2**24
# How exactly a Newton step is solved for: share of its residual, in the norm of the preconditioner, that may be left.
INEXACT = 0.3
# The same at least, for a fit that ends where steps are short.
ROUGH = 0.1
# Products with the curvature after which a Newton step is taken as it is, and the next ones are solved for by `Own`.
MANY = 30
# Share of the objective that a last step may have taken off; it falls by constant factors long before weights settle.
FLAT = 1e-2
# How far, as a share of their norm, weights may move before classes are looked at anew for the preconditioner.
STALE = 0.1
# Entries of images by classes on which the best start is chosen.
SAMPLED = 2**18
# Of an Armijo line search: share of the foretold decrease that must come, and halvings until rounding is to blame.
DECREASE, HALVINGS = 1e-4, 12
# Share of an objective by which it rounds.
ROUNDED = 1e-14
# Steps in a row, each damped ten times as much as the last, that may decrease nothing before a fit ends.
FAILURES = 6
# Fits of other strengths that a start is interpolated from, at most.
NEIGHBOURS = 3


@dataclass(frozen=True)
class Fit:
    """A classifier z = x Wᵀ + b, and how it came.

    Args:
        weight: W (C, D) float64. bias: b (C,) float64, of sum 0.
        error: what the gradient's norm allows ‖W − W*‖ / ‖W‖ to be.
        passes: times that all images were gone through.
    """

    weight: Tensor
    bias: Tensor
    error: float
    passes: int


@dataclass
class _Point:
    """The objective at W (D, C) and b (C,), of centred features."""

    weight: Tensor
    bias: Tensor
    loss: float
    slope: tuple[Tensor, Tensor]
    wrong: Tensor  # (N,) probability of all classes but the right one, exact also where it is tiny
    kept: list[Tensor]  # float32 probabilities by chunk, or nothing

    @property
    def steepness(self) -> float:
        return float((self.slope[0].square().sum() + self.slope[1].square().sum()).sqrt())


class LogisticRegression:
    """min over W, b of C Σ_n −log softmax(x_n Wᵀ + b)[y_n] + ½ ‖W‖², scikit-learn's objective; b is not penalised.

    Newton's method. Steps are solved by conjugate gradients, whose preconditioner takes the curvature for a Kronecker
    product (`heads.curvature.Shared`), or, once that was seen to need many steps and where there is room, knows each
    class's own (`Own`). Objective and gradient are in float64; products with the curvature, which only choose
    directions, in float32. Both are written so that images classified with near certainty, all of them under a weak
    penalty, keep their relative precision.

    Args:
        feature: (N, D), float32 or float64. labels: (N,) in 0 … C − 1, each of which occurs.
        classes: C ≥ 2.
        passes: through the images, at most, for each fit.
        say: told how far a fit is, once a step, as `say(line, True)`.

    Beside features in their own type, in float32 and, of at most `WIDE` numbers, in float64, memory holds twice `KEPT`
    probabilities, a few times `CHUNK` numbers, and 4 bytes three times for each of `curvature.OWN`.
    """

    def __init__(
        self,
        feature: Tensor,
        labels: Tensor,
        classes: int,
        passes: int = 1000,
        say: Callable[[str, bool], None] = lambda line, minor: None,
    ) -> None:
        self.feature, self.labels, self.classes = feature, labels, classes
        self.passes, self.say = passes, say
        # Centred features leave little for W and b to agree on; they change b alone.
        self.centre = feature.mean(dim=0, dtype=torch.float64)
        self.rows = max(1, CHUNK // classes)
        self.wide = feature.double() - self.centre if feature.numel() <= WIDE else None
        self.narrow = torch.cat([self._wide(rows).float() for rows in self._chunks()])
        # Not every so manieth, which might all be of some classes.
        some = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))[: max(1, SAMPLED // classes)]
        self.sample = some.sort().values.to(labels.device)
        self._gone = 0
        self._curvature: Shared | Own | None = None
        self._hard = False

    def fit(
        self, c: float, tolerance: float = 1e-4, others: Mapping[float, Fit] | None = None, settled: float = 0.0
    ) -> Fit:
        """The minimum for C = `c`.

        Args:
            tolerance: τ. The fit ends where the gradient's norm is at most τ times that of the penalty's, ‖W‖. The
                objective is 1-strongly convex in W, so ‖W − W*‖ ≤ τ ‖W‖ (the gradient in b being as good as 0).
            others: C → fit, of which the nearest in log C give the start.
            settled: the fit ends as well after a whole Newton step that moves W, and b, by at most this share, and
                takes at most a hundredth off the objective. That is an estimate of the error, where τ is a bound;
                where classes overlap, the bound is up to 10⁵ times the error, since it knows of the penalty's
                curvature alone.
        """
        self._gone = 0
        # The mean over images is what is computed with.
        penalty = 1 / (c * len(self.labels))
        at, error, damping, failed = self._start(c, penalty, others or {}), torch.inf, 0.0, 0
        while True:
            scale = penalty * float(at.weight.norm())
            error = at.steepness / scale if scale else (torch.inf if at.steepness else 0.0)
            self.say(f"C = {c:.4g}: error of the weights at most {error:.1e}, after {self._gone} passes", True)
            if error <= tolerance or self._gone >= self.passes:
                break
            rough = ROUGH if settled else 0.0
            left = max(INEXACT * min(1.0, error), tolerance / error / 2, rough)
            step = self._newton(at, penalty, damping, left)
            # Without a step there is nothing to see: curvature below what float32 holds.
            after, length = self._search(at, step, penalty) if _dot(step, step) > 0 else (None, 0.0)
            failed = failed + 1 if after is None else 0
            if failed == FAILURES:
                break
            if after is not None:
                still = length == 1 and not damping and _still(at, after, step, settled)
                at = after
                if still:
                    break
            size = float(at.weight.norm())
            damping = _damped(damping, length, at.steepness / size if size else penalty, penalty)
        weight = at.weight.T.contiguous()
        return Fit(weight, at.bias - weight @ self.centre, error, self._gone)

    def _chunks(self) -> Iterator[slice]:
        return (slice(i, i + self.rows) for i in range(0, len(self.labels), self.rows))

    def _wide(self, rows: slice) -> Tensor:
        return self.feature[rows].double() - self.centre if self.wide is None else self.wide[rows]

    def _start(self, c: float, penalty: float, others: Mapping[float, Fit]) -> _Point:
        """The best of the nearest fit and of the polynomials in log C through the nearest two, three."""
        near = sorted(others, key=lambda other: abs(log10(other / c)))[:NEIGHBOURS]
        if not near:
            zero = self.centre.new_zeros(len(self.centre) + 1, self.classes)
            return self._at(zero[:-1], zero[-1], penalty)

        def through(known: list[float]) -> tuple[Tensor, Tensor]:
            weight, bias = torch.zeros_like(others[near[0]].weight), torch.zeros_like(others[near[0]].bias)
            for other, share in zip(known, _lagrange([log10(other) for other in known], log10(c)), strict=True):
                weight += share * others[other].weight
                bias += share * others[other].bias
            return weight.T.contiguous(), bias + weight @ self.centre

        if len(near) == 1:
            return self._at(*through(near), penalty)
        # One after the other, so that no more than two are held.
        starts = (through(near[:count]) for count in range(1, len(near) + 1))
        return self._at(*min(starts, key=lambda start: self._sampled(start[0], start[1], penalty)), penalty)

    def _sampled(self, weight: Tensor, bias: Tensor, penalty: float) -> float:
        """The objective on some of the images."""
        x, own = self.feature[self.sample].double() - self.centre, self.labels[self.sample, None]
        loss = _probabilities(x, weight, bias, own)[2]
        return float(loss / len(own) + penalty * weight.square().sum() / 2)

    def _at(self, weight: Tensor, bias: Tensor, penalty: float) -> _Point:
        """Mean loss and penalty, with their gradient."""
        self._gone += 1
        loss = penalty * weight.square().sum() / 2
        slope, lean = penalty * weight, torch.zeros_like(bias)
        wrong, kept = [], []
        for rows in self._chunks():
            x, own = self._wide(rows), self.labels[rows, None]
            p, right, part = _probabilities(x, weight, bias, own)
            wrong.append(p.sum(dim=1))
            loss += part / len(self.labels)
            if len(self.labels) * self.classes <= KEPT:
                kept.append(p.float().scatter_(1, own, right.float()))
            residual = p.scatter_(1, own, -wrong[-1][:, None])
            slope += (residual.T @ x).T / len(self.labels)
            lean += residual.sum(dim=0) / len(self.labels)
        return _Point(weight, bias, float(loss), (slope, lean), torch.cat(wrong), kept)

    def _expected(self, at: _Point, number: int, rows: slice) -> Tensor:
        """Probabilities of a chunk, float32."""
        if at.kept:
            return at.kept[number]
        own = self.labels[rows, None]
        p, right, _ = _probabilities(self.narrow[rows], at.weight.float(), at.bias.float(), own)
        return p.scatter_(1, own, right)

    def _curved(
        self, at: _Point, penalty: float, damping: float, weight: Tensor, bias: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The curvature's product with a direction (D, C), (C,)."""
        self._gone += 1
        bent, lean = (penalty + damping) * weight, damping * bias
        narrow, shift = weight.float(), bias.float()
        for number, rows in enumerate(self._chunks()):
            x, p = self.narrow[rows], self._expected(at, number, rows)
            u = _responses(x, narrow, shift)
            # Relative to the right class, the mean is one over the others: no difference of near-equal numbers.
            u -= u.gather(1, self.labels[rows, None])
            u -= (p * u).sum(dim=1, keepdim=True)
            u *= p
            bent += (u.T @ x).T.double() / len(self.labels)
            lean += u.sum(dim=0).double() / len(self.labels)
        return bent, lean

    def _newton(self, at: _Point, penalty: float, damping: float, left: float) -> tuple[Tensor, Tensor]:
        """A step solved for by preconditioned conjugate gradients, until `left` of the residual is left."""
        ease, begun = self._preconditioner(at, penalty, damping), self._gone
        residual = (-at.slope[0], -at.slope[1])
        step = (torch.zeros_like(at.weight), torch.zeros_like(at.bias))
        along = eased = ease(*residual)
        size = start = _dot(residual, eased)
        while size > left**2 * start and self._gone < self.passes:
            if not self._hard and self._gone - begun == MANY and Own.fits(*at.weight.shape):
                self._hard = True  # what there is of the step decreases the objective as well
                break
            bent = self._curved(at, penalty, damping, *along)
            curvature = _dot(along, bent)
            if not curvature > 0:
                break
            step = _moved(step, size / curvature, along)
            residual = _moved(residual, -size / curvature, bent)
            eased = ease(*residual)
            size, before = _dot(residual, eased), size
            along = _moved(eased, size / before, along)
        return step

    def _preconditioner(self, at: _Point, penalty: float, damping: float) -> Eased:
        kind = Own if self._hard else Shared
        known = self._curvature
        if type(known) is not kind or float((at.weight - known.weight).norm()) > STALE * float(at.weight.norm()):
            known = self._curvature = None  # before there is another
            known = self._curvature = kind.of(at.weight, self.narrow, lambda: self._unsure(at))
        return known.eased(penalty, damping)

    def _unsure(self, at: _Point) -> Iterator[tuple[slice, Tensor, Tensor]]:
        """Probabilities p by chunk, and p (1 − p)."""
        for number, rows in enumerate(self._chunks()):
            p, own = self._expected(at, number, rows), self.labels[rows, None]
            yield rows, p, (p * (1 - p)).scatter_(1, own, p.gather(1, own) * at.wrong[rows, None].float())

    def _search(self, at: _Point, step: tuple[Tensor, Tensor], penalty: float) -> tuple[_Point | None, float]:
        """The first of the full, half, quarter, … step that decreases the objective, None if none does; its length."""
        slope, length = _dot(at.slope, step), 1.0
        for _ in range(HALVINGS):
            after = self._at(at.weight + length * step[0], at.bias + length * step[1], penalty)
            # Where rounding hides the decrease the gradient, which is exact to more digits, tells.
            hidden = abs(after.loss - at.loss) <= ROUNDED * at.loss and after.steepness <= at.steepness
            if hidden or after.loss <= at.loss + DECREASE * length * slope:
                return after, length
            length /= 2
            if self._gone >= self.passes:
                break
        return None, 0.0


def _damped(damping: float, length: float, bound: float, penalty: float) -> float:
    """Added to the curvature of the next Newton step (Levenberg, Marquardt); with `bound`, it is not over ‖W‖.

    An image that is wrong with near certainty pulls without any curvature that would tell how far.
    """
    if length < 0.5:
        return max(10 * damping, bound)
    return damping / 10 if damping > 10 * penalty else 0.0


def _still(before: _Point, after: _Point, step: tuple[Tensor, Tensor], share: float) -> bool:
    """Whether a whole step moved weights and biases by at most a share of their size, to little gain."""
    weight, bias = float(after.weight.norm()), float(after.bias.norm())
    if before.loss - after.loss > FLAT * after.loss:
        return False
    return bool(step[0].norm() <= share * weight and step[1].norm() <= share * (weight + bias))


def _responses(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """x W + b, (n, C), of which each class lies together: with few classes that is the faster way to multiply."""
    return torch.addmm(bias[:, None], weight.T, x.T).T


def _probabilities(x: Tensor, weight: Tensor, bias: Tensor, own: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Probabilities of the wrong classes, (n, C) with 0 for the right one; of the right one, (n, 1); the sum of losses.

    Written relative to the right class, so that losses and probabilities near 0 keep their digits.
    """
    z = _responses(x, weight, bias)
    z -= z.gather(1, own)
    top = z.amax(dim=1, keepdim=True)
    p = z.sub_(top).exp_().scatter_(1, own, 0.0)
    others, right = p.sum(dim=1, keepdim=True), (-top).exp()
    loss = torch.where(top > 0, top + (others + right).log(), others.log1p()).sum()
    return p.div_(others + right), right / (others + right), loss


def _lagrange(points: list[float], place: float) -> list[float]:
    """Shares of values at some points in their polynomial's value at a place."""
    shares = []
    for own in points:
        share = 1.0
        for other in points:
            if other != own:
                share *= (place - other) / (own - other)
        shares.append(share)
    return shares


def _dot(one: tuple[Tensor, Tensor], other: tuple[Tensor, Tensor]) -> float:
    return float((one[0] * other[0]).sum() + (one[1] * other[1]).sum())


def _moved(start: tuple[Tensor, Tensor], length: float, along: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    return start[0] + length * along[0], start[1] + length * along[1]
