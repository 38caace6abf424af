"""Whether two prompts use the same channels, against what chance, another seed and a shuffled change would give."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from scipy import stats
from torch import Tensor

from cliptune.analysis.finding import Finding

MEASURES = ("spearman", "pearson", "jaccard", "cosine", "drift")
TOP = 0.1
DRAWS = 20


@dataclass(frozen=True)
class Channels:
    """How alike the channels of two prompts P and P' of one shape are; κ(P)_c = mean over rows of |P_kc|.

    Args:
        spearman, pearson: correlation of κ(P) and κ(P'), in [−1, 1]; NaN for a profile that is constant.
        jaccard: of their largest 10 % of channels, in [0, 1].
        cosine: mean over rows of cos(p_k, p'_k).
        drift: ‖P' − P‖ / ‖P‖, Frobenius.
    """

    spearman: float
    pearson: float
    jaccard: float
    cosine: float
    drift: float


@dataclass(frozen=True)
class ChannelInvariance(Finding):
    """Channels of a tuned and a parallel prompt beside controls.  (arXiv:2503.13443; the measures are ours)

    Args:
        places: L names of where the prompts enter, such as "text 0".
        pairs: P' and controls compared with P: name → measure → (L,) float64. "parallel" is P'; "permuted" is P plus
            P' − P with its channels in another order; "random" is Gaussian, of P's length row by row; "other seed" is
            a prompt that another run learned, where one was given. Of controls that are drawn, the mean over draws.
        draws: how many.
    """

    places: tuple[str, ...]
    pairs: Mapping[str, Mapping[str, Tensor]]
    draws: int

    def mean(self, pair: str, measure: str) -> float:
        """Over places."""
        return float(self.pairs[pair][measure].mean())

    def sentence(self) -> str:
        controls = ", ".join(
            f"{name} {self.mean(name, 'spearman'):.3f}" for name in self.pairs if name not in ("parallel", "permuted")
        )
        gained = self.mean("parallel", "spearman") - self.mean("permuted", "spearman")
        verdict = (
            "no more than the same change in other channels leaves of it, so that the agreement comes from how little "
            "the prompt moved"
            if gained <= 0.01
            else "more than the same change in other channels leaves of it"
        )
        return (
            f"The channel profiles of the tuned and the parallel prompt agree with Spearman's ρ = "
            f"{self.mean('parallel', 'spearman'):.3f} ({controls}; change permuted "
            f"{self.mean('permuted', 'spearman'):.3f}), {verdict}; it moved by "
            f"{100 * self.mean('parallel', 'drift'):.1f} % of its length."
        )


def profile(prompt: Tensor) -> Tensor:
    """κ (d,) float64, mean |P_kc| over the rows of (…, n, d)."""
    return prompt.detach().double().abs().flatten(0, -2).mean(dim=0)


def compare_channels(first: Tensor, second: Tensor, top: float = TOP) -> Channels:
    """Compare the channels of two prompts (…, n, d).

    Args:
        top: share of the channels that count as the largest, in (0, 1]; at least one channel.
    Raises: ValueError if their shapes differ or `top` is out of range.
    """
    if first.shape != second.shape or first.ndim < 2 or not 0 < top <= 1:
        raise ValueError(
            f"compare_channels: expected two prompts (n, d) of one shape and a share in (0, 1], got "
            f"{tuple(first.shape)}, {tuple(second.shape)} and {top}. Compare prompts of one method on one backbone."
        )
    first, second = (p.detach().double().cpu().flatten(0, -2) for p in (first, second))
    a, b = profile(first), profile(second)
    n = max(1, round(top * len(a)))
    largest = [set(p.topk(n).indices.tolist()) for p in (a, b)]
    return Channels(
        spearman=_correlation(stats.spearmanr, a, b),
        pearson=_correlation(stats.pearsonr, a, b),
        jaccard=len(largest[0] & largest[1]) / len(largest[0] | largest[1]),
        cosine=float(F.cosine_similarity(first, second, dim=-1).mean()),
        drift=float((second - first).norm() / first.norm().clamp_min(1e-300)),
    )


def channel_invariance(
    tuned: Mapping[str, Tensor],
    parallel: Mapping[str, Tensor],
    other: Mapping[str, Tensor] | None = None,
    *,
    draws: int = DRAWS,
    seed: int = 0,
) -> ChannelInvariance:
    """Compare two prompts place by place, beside controls.

    Args:
        tuned, parallel: place → P and P', (…, n, d).
        other: P of a run with another seed, if there is one.
        draws: of the random and the permuted control, at least 1.
        seed: of the draws.
    Raises: ValueError if the places or shapes differ, or there is none.
    """
    for given in (parallel, *([] if other is None else [other])):
        if not tuned or given.keys() != tuned.keys():
            raise ValueError(
                f"channel_invariance: the prompts must enter at the same places, at least one, got "
                f"{', '.join(tuned) or 'none'} and {', '.join(given) or 'none'}."
            )
    if draws < 1:
        raise ValueError(f"channel_invariance: at least one draw is needed, got {draws}.")
    generator = torch.Generator().manual_seed(seed)
    found: dict[str, list[Sequence[Channels]]] = {"parallel": [], "permuted": [], "random": []}
    if other is not None:
        found["other seed"] = []
    for place, p in tuned.items():
        p, moved = p.detach().cpu(), parallel[place].detach().cpu()
        found["parallel"].append([compare_channels(p, moved)])
        found["permuted"].append([compare_channels(p, _permuted(p, moved, generator)) for _ in range(draws)])
        found["random"].append([compare_channels(p, _random(p, generator)) for _ in range(draws)])
        if other is not None:
            found["other seed"].append([compare_channels(p, other[place])])
    pairs = {name: {measure: _means(places, measure) for measure in MEASURES} for name, places in found.items()}
    return ChannelInvariance(tuple(tuned), pairs, draws)


def _permuted(tuned: Tensor, parallel: Tensor, generator: torch.Generator) -> Tensor:
    order = torch.randperm(tuned.shape[-1], generator=generator)
    return tuned + (parallel - tuned)[..., order]


def _random(like: Tensor, generator: torch.Generator) -> Tensor:
    drawn = torch.randn(like.shape, generator=generator)
    return F.normalize(drawn, dim=-1) * like.norm(dim=-1, keepdim=True)


def _means(places: Sequence[Sequence[Channels]], measure: str) -> Tensor:
    return torch.tensor([np.mean([getattr(c, measure) for c in of_place]) for of_place in places], dtype=torch.float64)


def _correlation(of: object, a: Tensor, b: Tensor) -> float:
    """NaN, without a warning, where a profile is constant."""
    if float(a.max() - a.min()) == 0 or float(b.max() - b.min()) == 0:
        return float("nan")
    return float(of(a.numpy(), b.numpy()).statistic)  # type: ignore[operator]
