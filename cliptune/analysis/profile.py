"""Contributions of tokens over a data set: mean and spread at every place, and what is not tokens."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from cliptune.adapter import Adapter
from cliptune.analysis.alignment import Estimator, TokenContributions, TokenEffects, Tower, token_effects
from cliptune.analysis.attention import pieces
from cliptune.analysis.finding import Finding
from cliptune.batch import Batch

PARTS = ("tokens", "mlp", "bias", "start", "constant")


@dataclass(frozen=True)
class Sample:
    """Relative contributions c_j / Σ_k |c_k| over some images.

    Args:
        mean, spread: (T,) mean and standard deviation at every place; NaN without images.
        n: images.
    """

    mean: Tensor
    spread: Tensor
    n: int


@dataclass(frozen=True)
class ContributionProfile(Finding):
    """What tokens contribute to the score of images and their classes.  (arXiv:2312.11570, figs. 2–3)

    Args:
        tower: whose tokens.
        estimator: one of `ESTIMATORS`.
        margin: the score is that of the own class minus the best other one.
        places: (T,) token group at each place, the most frequent one.
        everything: over all images.
        gained: over those that the frozen CLIP names wrongly and the adapter rightly, the paper's sample.
        groups: token group → mean relative contribution, signed.
        parts: what adds up to the score, mean over all images, for the direct estimator: tokens, MLPs, biases, the
            query's own start, and a constant.
        score: mean over all images.
    """

    tower: Tower
    estimator: Estimator
    margin: bool
    places: tuple[str, ...]
    everything: Sample
    gained: Sample
    groups: Mapping[str, float]
    parts: Mapping[str, float]
    score: float

    @property
    def shares(self) -> dict[str, float]:
        """Share of each part in the mean score, in %; together 100."""
        return {name: 100 * value / self.score for name, value in self.parts.items()}

    def sentence(self) -> str:
        leading = max(self.groups, key=lambda name: abs(self.groups[name]))
        what = "margin" if self.margin else "score"
        by = self.estimator.replace("_", " ")
        held = f"{leading!r} holds {self.groups[leading]:+.0%} (estimator: {by}, {self.everything.n} images)"
        if not self.parts:
            return f"Of what the {self.tower} tokens do to the {what}, {held}."
        share = self.shares
        return (
            f"Of the {what} in the {self.tower} tower, {self.score:.1f}, tokens carry {share['tokens']:.0f} %, MLPs "
            f"{share['mlp']:.0f} %, the query's own start {share['start']:.0f} %; of the tokens, "
            f"{held}."
        )


@torch.no_grad()
def contribution_profile(
    adapter: Adapter,
    batches: Iterable[Batch],
    tower: Tower = "image",
    estimator: Estimator = "direct",
    *,
    margin: bool = False,
    layer: int = 0,
) -> ContributionProfile:
    """Contributions at every place, mean and spread over a data set and over the paper's sample.

    Args:
        adapter, tower, estimator, margin, layer: as in `token_effects`.
        batches: labelled images.
    Raises: as `token_effects`; ValueError if there is no image.
    """
    sums = _Sums()
    for batch in batches:
        for part in pieces(batch):
            with adapter.evaluating():
                out = adapter(part, needs=frozenset({"reference"}))
            assert out.reference is not None
            right, before = (logits.argmax(dim=-1) == part.labels for logits in (out.logits, out.reference.logits))
            sums.add(token_effects(adapter, part, tower, estimator, margin=margin, layer=layer), right & ~before)
    if not sums.n:
        raise ValueError("contributions: there is no image to look at. Give batches of at least one image.")
    n, seen = sums.n, torch.tensor([name != "pad" for name in sums.names])
    counts = sums.places * seen
    length = int(counts.sum(dim=-1).nonzero().max()) + 1  # up to the last end of text
    places = tuple(sums.names[g] for g in counts[:length].argmax(dim=-1).tolist())
    groups = {name: share for name, share in zip(sums.names, (sums.groups / n).tolist(), strict=True) if name in places}
    parts = {name: value / n for name, value in zip(PARTS, sums.parts.tolist(), strict=True)} if sums.direct else {}
    samples = (_sample(values[:, :length], int(count)) for values, count in zip(sums.moments, sums.counts, strict=True))
    everything, gained = samples
    return ContributionProfile(tower, estimator, margin, places, everything, gained, groups, parts, sums.score / n)


class _Sums:
    """Over images, and over those of the paper's sample."""

    def __init__(self) -> None:
        self.n, self.score, self.direct = 0, 0.0, False
        self.counts = [0, 0]
        self.names: tuple[str, ...] = ()
        self.moments = self.places = self.groups = torch.zeros(())
        self.parts = torch.zeros(len(PARTS), dtype=torch.float64)

    def add(self, effects: TokenEffects, gained: Tensor) -> None:
        relative = effects.relative.cpu()
        if not self.n:
            self.names = effects.layout.names
            self.moments = relative.new_zeros(2, 2, relative.shape[1])
            self.places = torch.zeros(relative.shape[1], len(self.names), dtype=torch.int64)
            self.groups = relative.new_zeros(len(self.names))
        for i, rows in enumerate((relative, relative[gained.cpu()])):
            self.counts[i] += len(rows)
            self.moments[i] += torch.stack([rows.sum(dim=0), rows.square().sum(dim=0)])
        group = torch.nn.functional.one_hot(effects.layout.group.cpu().expand(len(relative), -1), len(self.names))
        self.places += group.sum(dim=0)
        self.groups += torch.einsum("bt,btg->g", relative, group.to(relative))
        self.score += float(effects.score.sum())
        self.n += len(relative)
        if isinstance(effects, TokenContributions):
            self.direct = True
            parts = (effects.tokens.sum(dim=-1), effects.mlp, effects.bias, effects.start, effects.constant)
            self.parts += torch.stack([part.sum() for part in parts]).cpu()


def _sample(moments: Tensor, n: int) -> Sample:
    mean, squared = moments / n if n else torch.full_like(moments, float("nan"))
    return Sample(mean, (squared - mean.square()).clamp_min(0).sqrt(), n)
