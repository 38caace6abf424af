"""A token batch that knows which class and which view each text speaks for."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from cliptune.clip.tokens import TokenBatch


@dataclass(frozen=True)
class TextBatch(TokenBatch):
    """K texts for C classes.

    Args:
        ids, slots: as in `TokenBatch`.
        class_of: (K,) int64, class of each text; −1 for a text of no class.
        view_of: (K,) int64, view of the image that each text looks at; zeros where there is one view.
        classes: C.
        ensemble: average the unit features of a class's texts, then normalise again, so that each class has one
            text feature. (The standard ensemble has both normalisations.)
        set_of: (K,) int64, which set of descriptions each text is from, counted from 0; None where there are no sets.
        raw_mean: of an ensemble, average the features as the tower gives them, and normalise only the mean.
        notes: what was passed over, cut or repeated for want of texts, a sentence each.
    """

    class_of: Tensor
    view_of: Tensor
    classes: int
    ensemble: bool = False
    raw_mean: bool = False
    set_of: Tensor | None = None
    notes: tuple[str, ...] = ()

    @classmethod
    def one_each(cls, tokens: TokenBatch) -> TextBatch:
        """One text per class, in order."""
        k = len(tokens)
        each = torch.arange(k, device=tokens.ids.device)
        return cls(tokens.ids, tokens.slots, each, torch.zeros_like(each), k)

    def reduce(self, embedding: Tensor) -> Tensor:
        """Outputs of the text tower (I, K, D) → unit features that vote: (I, C, D) for an ensemble, else (I, K, D)."""
        return F.normalize(self._sums(embedding) if self.ensemble else embedding, dim=-1)

    def mean(self, embedding: Tensor) -> Tensor:
        """The same before the last normalisation: (I, C, D), the mean over an ensemble's texts, else (I, K, D)."""
        if not self.ensemble:
            return embedding
        return self._sums(embedding) / torch.bincount(self.class_of, minlength=self.classes)[:, None]

    def _sums(self, embedding: Tensor) -> Tensor:
        features = embedding if self.raw_mean else F.normalize(embedding, dim=-1)
        sums = features.new_zeros(features.shape[0], self.classes, features.shape[-1])
        return sums.index_add(1, self.class_of, features)

    def lengths(self, embedding: Tensor) -> Tensor:
        """Outputs of the text tower (I, K, D) → lengths (I, C) of the mean over each class's texts."""
        voting = self.class_of >= 0
        sums = embedding.new_zeros(len(embedding), self.classes, embedding.shape[-1])
        sums = sums.index_add(1, self.class_of[voting], embedding[:, voting])
        return (sums / torch.bincount(self.class_of[voting], minlength=self.classes)[:, None]).norm(dim=-1)

    @cached_property
    def one_vote_each(self) -> bool:
        """Does feature c, after `reduce`, speak for class c, for all C classes?"""
        return self.ensemble or self.class_of.tolist() == list(range(self.classes))

    @cached_property
    def blocks(self) -> Tensor:
        """(C, M) int64: positions of each class's own texts, in order, where every class has M of them.

        Raises: ValueError if the classes have different numbers of texts.
        """
        counts = torch.bincount(self.class_of[self.class_of >= 0], minlength=self.classes)
        if int(counts.min()) != int(counts.max()) or not int(counts.min()):
            raise ValueError(
                f"TextBatch: every class needs the same number of texts here, got between {int(counts.min())} and "
                f"{int(counts.max())}. Draw the same number of descriptions for each class."
            )
        by_class = torch.argsort(self.class_of, stable=True)
        return by_class[-int(counts.sum()) :].view(self.classes, -1)

    @cached_property
    def set_columns(self) -> tuple[tuple[int, ...], ...]:
        """For each set of descriptions, its columns in `blocks`; the sets lie alike in all classes.

        Plain numbers, so that a head that asks for them can be exported.
        """
        first = self.blocks[0]
        sets = [0] * len(first) if self.set_of is None else self.set_of[first].tolist()
        return tuple(tuple(i for i, own in enumerate(sets) if own == s) for s in range(max(sets) + 1))
