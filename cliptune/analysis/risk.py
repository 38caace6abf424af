"""Whether other weights of descriptions could do better for fixed patterns: the training risk over weightings."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from cliptune.adapter import Adapter
from cliptune.analysis.finding import Finding
from cliptune.batch import Batch
from cliptune.heads import PRMHead
from cliptune.heads.descriptions import own_scores

STEPS = 2000
GAP = 1e-4


@dataclass(frozen=True)
class RiskCheck(Finding):
    """Mean cross-entropy over training images, in nats, of weightings ω (C, M) of each class's descriptions.

    Args:
        best: risk of the best weighting found. It is no larger than that of any weighting in `fixed`.
        bound: no weighting has a smaller risk than this: the risk is convex, and a gradient bounds it from below.
        fixed: name of a weighting → its risk: "even", "votes" (the fitted matrix), "heaviest" (of each class the one
            description that the votes prefer), and "best single", the best of the M that take the m-th of each class.
        n: images.
    Source: arXiv:2506.01000, whose claim is about the smallest risk; votes are not its minimiser.
    """

    best: float
    bound: float
    fixed: Mapping[str, float]
    n: int

    def sentence(self) -> str:
        beside = ", ".join(f"{name} {risk:.4f}" for name, risk in self.fixed.items())
        return (
            f"With the patterns as they are, weights could bring the training risk to {self.best:.4f} nats (no "
            f"weighting is below {max(0.0, self.bound):.4f}); fixed weightings: {beside} ({self.n} images)."
        )


@torch.no_grad()
def risk_check(adapter: Adapter, batches: Iterable[Batch], *, steps: int = STEPS, gap: float = GAP) -> RiskCheck:
    """Find the best weighting for fixed patterns.

    Args:
        adapter: with a reweighting matrix.
        batches: labelled training images.
        steps: of the search, at most. gap: nats between `best` and `bound` at which it ends.
    Raises: ValueError if there is no such matrix, or no image.
    """
    head = adapter.head
    if not isinstance(head, PRMHead):
        raise ValueError(
            f"risk_check: this adapter has no reweighting matrix, its head is a {type(head).__name__}. "
            "Use dvp_cse, dvp_cls or dvplite."
        )
    parts, labels = [], []
    with adapter.evaluating():
        text = adapter.text_features()
        for batch in batches:
            similarity = adapter(batch, text_features=text).similarity
            parts.append(own_scores(similarity, adapter.texts, head.view_of(adapter.texts)).cpu().double())
            labels.append(batch.labels.cpu())
    if not parts:
        raise ValueError("risk_check: there is no image to look at. Give batches of at least one image.")
    scores, label = torch.cat(parts), torch.cat(labels)
    votes = head.weight.cpu().double()
    known = {"even": torch.full_like(votes, 1 / votes.shape[1]), "votes": votes}
    known["heaviest"] = F.one_hot(votes.argmax(dim=1), votes.shape[1]).double()
    singles = [F.one_hot(torch.full((len(votes),), m), votes.shape[1]).double() for m in range(votes.shape[1])]
    known["best single"] = min(singles, key=lambda weight: risk(scores, label, weight))
    fixed = {name: risk(scores, label, weight) for name, weight in known.items()}
    best, bound = smallest_risk(scores, label, known[min(fixed, key=lambda name: fixed[name])], steps, gap)
    return RiskCheck(best, bound, fixed, len(label))


def risk(scores: Tensor, labels: Tensor, weight: Tensor) -> float:
    """Mean cross-entropy of the logits Σ_m ω[c, m] s[n, c, m]; scores (N, C, M), labels (N,), weight (C, M)."""
    return float(F.cross_entropy(torch.einsum("ncm,cm->nc", scores, weight), labels))


def smallest_risk(
    scores: Tensor, labels: Tensor, start: Tensor, steps: int = STEPS, gap: float = GAP
) -> tuple[float, float]:
    """Risk of the best weighting that projected gradient steps with momentum find, and a lower bound of all.

    The best of all points is kept, so that it is never above that of the start. The bound is that of Frank and Wolfe:
    R(ω) − max over weightings v of <∇R(ω), ω − v>.
    """
    at = ahead = start.clone()
    best, bound, size, inertia = risk(scores, labels, start), 0.0, 1.0, 1.0
    for _ in range(steps):
        here, slope = _with_gradient(scores, labels, ahead)
        bound = max(bound, here - float((slope * ahead).sum() - slope.amin(dim=1).sum()))
        while True:
            moved = project(ahead - size * slope)
            change = moved - ahead
            value = risk(scores, labels, moved)
            if value <= here + float((slope * change).sum() + change.square().sum() / (2 * size)) + 1e-12:
                break
            size /= 2
        if value > best:  # momentum overshot: begin it anew
            inertia = 1.0
        best = min(best, value)
        if best - bound <= gap:
            break
        after = (1 + (1 + 4 * inertia**2) ** 0.5) / 2
        ahead = project(moved + (inertia - 1) / after * (moved - at))
        at, inertia, size = moved, after, size * 1.2
    return best, bound


def project(weight: Tensor) -> Tensor:
    """The nearest rows (C, M) that are at least 0 and add up to 1.  (arXiv:1309.1541)"""
    ordered = weight.sort(dim=1, descending=True).values
    count = torch.arange(1, weight.shape[1] + 1, dtype=weight.dtype)
    excess = (ordered.cumsum(dim=1) - 1) / count
    last = (ordered > excess).sum(dim=1, keepdim=True) - 1
    return (weight - excess.gather(1, last)).clamp_min(0)


def _with_gradient(scores: Tensor, labels: Tensor, weight: Tensor) -> tuple[float, Tensor]:
    logits = torch.einsum("ncm,cm->nc", scores, weight)
    off = (logits.softmax(dim=1) - F.one_hot(labels, logits.shape[1])) / len(labels)
    return float(F.cross_entropy(logits, labels)), torch.einsum("nc,ncm->cm", off, scores)
