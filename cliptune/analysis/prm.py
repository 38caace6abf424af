"""What a reweighting matrix says: which cause matters for which class, what patterns add, what is redundant."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from cliptune.adapter import Adapter
from cliptune.batch import Batch
from cliptune.heads import PRMHead
from cliptune.heads.descriptions import own_scores
from cliptune.heads.prm import effective_number
from cliptune.prompts import Prompt, Together
from cliptune.prompts.pixels import PixelPattern
from cliptune.texts import DescriptionPhrasing


@dataclass(frozen=True)
class Weighing:
    """A fitted reweighting matrix, read.

    Args:
        class_names: C. groups: v names, causes or "cluster 1" and so on.
        weight: (C, M), rows sum to 1. group_of: (C, M), group of each description.
        sentences: class by class the M descriptions.
        mass: (C, v), weight of each group in each class; rows sum to 1. `prior` (C, v) is the same before any vote.
        effective: (C,), how many descriptions a class really uses, 1 … M.
        divergence: mean over classes of KL(mass ‖ prior) in nats: 0 if votes told no group from another.
    """

    class_names: tuple[str, ...]
    groups: tuple[str, ...]
    weight: Tensor
    group_of: Tensor
    sentences: tuple[tuple[str, ...], ...]
    mass: Tensor
    prior: Tensor
    effective: Tensor
    divergence: float

    def top(self, class_name: str, n: int = 5) -> list[tuple[str, str, float]]:
        """The heaviest descriptions of a class: (sentence, group, weight), heaviest first."""
        if class_name not in self.class_names:
            raise ValueError(f"Weighing: there is no class {class_name!r}; there are {', '.join(self.class_names)}.")
        row = self.class_names.index(class_name)
        best = self.weight[row].topk(min(n, self.weight.shape[1]))
        return [
            (self.sentences[row][i], self.groups[int(self.group_of[row, i])], float(w))
            for w, i in zip(best.values, best.indices.tolist(), strict=True)
        ]

    def leading(self) -> dict[str, tuple[str, float]]:
        """Class → the group that gained most over its prior share, and its mass."""
        best = (self.mass - self.prior).argmax(dim=1).tolist()
        return {
            name: (self.groups[i], float(self.mass[row, i]))
            for row, (name, i) in enumerate(zip(self.class_names, best, strict=True))
        }


@torch.no_grad()
def weighing(adapter: Adapter) -> Weighing:
    """Read the matrix of an adapter. Raises: ValueError if it has none."""
    head = _head(adapter)
    if not head.settled:
        text = adapter.text_features()
        assert text is not None  # a head that clusters refuses texts that depend on the image
        head.settle(text, adapter.texts)
    phrasing = adapter.phrasing
    if not isinstance(phrasing, DescriptionPhrasing):
        raise ValueError(f"Weighing: the texts of this adapter are no descriptions, but {type(phrasing).__name__}.")
    drawn = phrasing.sentences(adapter.classes)
    rows = range(len(adapter.classes))
    sentences = tuple(tuple(s for name in phrasing.sets for s in drawn[name][c]) for c in rows)
    blocks = adapter.texts.blocks
    if head.groups is not None:
        group_of, names = head.group[blocks], tuple(f"cluster {i + 1}" for i in range(head.groups))
    else:
        assert adapter.texts.set_of is not None
        group_of, names = adapter.texts.set_of[blocks], phrasing.sets
    weight = head.weight.detach().cpu().clone()
    group_of = group_of.cpu()
    of_group = F.one_hot(group_of, len(names)).float()  # (C, M, v)
    mass, prior = torch.einsum("cm,cmv->cv", weight, of_group), of_group.mean(dim=1)
    ratio = torch.where(mass > 0, mass / prior.clamp_min(1e-12), torch.ones_like(mass))
    divergence = float((mass * ratio.log()).sum(dim=1).mean())
    return Weighing(
        adapter.class_names, names, weight, group_of, sentences, mass, prior, effective_number(weight), divergence
    )


@torch.no_grad()
def contributions(adapter: Adapter, batch: Batch) -> Tensor:
    """What each group of descriptions adds to each logit: (B, v, C), which sums over v to the logits.

    The group's descriptions are scored through the group's own pattern, so this is the contribution of the pattern
    where each group has one. For comparisons between groups divide by `Weighing.mass`.
    """
    head = _head(adapter)
    with adapter.evaluating():
        out = adapter(batch)
    read = weighing(adapter)
    scores = own_scores(out.similarity, adapter.texts, head.view_of(adapter.texts))  # (B, C, M)
    of_group = F.one_hot(read.group_of, len(read.groups)).to(scores)
    return torch.einsum("bcm,cm,cmv->bvc", scores, head.weight, of_group)


@dataclass(frozen=True)
class Redundancy:
    """How alike the patterns of an adapter are.

    Args:
        patterns: (V, V), cosine between the learned values of the patterns; 1 on the diagonal, and between patterns
            that are both still 0.
        views: (V, V), mean cosine between the image features that they give, or None without images; of another number
            of views, where some patterns make several of them.
        predictions: (V, V), share of images in [0, 1] for which two patterns alone would name the same class, or None.
    """

    patterns: Tensor
    views: Tensor | None = None
    predictions: Tensor | None = None


@torch.no_grad()
def redundancy(adapter: Adapter, batch: Batch | None = None) -> Redundancy:
    """Compare the patterns of an adapter with each other, and what they make of images.

    Raises: ValueError if there is no pattern on the pixels.
    """
    prompt = _pattern(adapter.prompt)
    values = prompt.program().detach().cpu().view(prompt.patterns, -1)
    norm = values.norm(dim=1)
    both_empty = (norm[:, None] == 0) & (norm[None] == 0)
    unit = F.normalize(values, dim=1)
    alike = torch.where(both_empty, torch.ones_like(both_empty, dtype=values.dtype), unit @ unit.T)
    if batch is None:
        return Redundancy(alike)
    with adapter.evaluating():
        features = adapter(batch).image_features.cpu()  # (B, V, D)
    views = torch.einsum("bvd,bwd->vw", features, features) / len(features)
    predictions = None
    if isinstance(adapter.head, PRMHead) and prompt.patterns > 1:
        read = weighing(adapter)
        # a class that a group says nothing about cannot be its answer
        alone = contributions(adapter, batch).cpu() / read.mass.T.clamp_min(1e-12)
        named = alone.masked_fill(read.mass.T == 0, -torch.inf).argmax(dim=-1)  # (B, v)
        predictions = (named[:, :, None] == named[:, None]).float().mean(dim=0)
    return Redundancy(alike, views, predictions)


def remarks(read: Weighing, alike: Redundancy) -> list[str]:
    """Sentences about weights that tell nothing apart, with what to try; empty if all is well."""
    found = []
    several = len(read.groups) > 1
    if several and read.divergence < 0.01:
        found.append(
            f"The votes tell no group from another (mean divergence {read.divergence:.4f} nats): use fewer groups, "
            "another partition, or less smoothing."
        )
    if bool((read.effective > 0.95 * read.weight.shape[1]).all()):
        found.append(
            "Every class weighs its descriptions evenly: there were few votes, strong smoothing, or descriptions that "
            "are all alike."
        )
    between = alike.patterns[~torch.eye(len(alike.patterns), dtype=torch.bool)]
    if len(between) and float(between.min()) > 0.99:
        found.append("All patterns are alike (cosine above 0.99): one would do, or they have hardly learned.")
    return found


def _head(adapter: Adapter) -> PRMHead:
    if not isinstance(adapter.head, PRMHead):
        raise ValueError(
            f"Weighing: this adapter has no reweighting matrix, its head is a {type(adapter.head).__name__}. "
            "Use dvp_cse, dvp_cls or dvplite."
        )
    return adapter.head


def _pattern(prompt: Prompt) -> PixelPattern:
    parts = prompt.parts.values() if isinstance(prompt, Together) else [prompt]
    found = [part for part in parts if isinstance(part, PixelPattern)]
    if not found:
        raise ValueError(f"Redundancy: there is no pattern on the pixels in a {type(prompt).__name__}.")
    return found[0]
