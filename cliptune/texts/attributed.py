"""Class texts with attribute words in front of the context."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from cliptune.clip.model import CLIP
from cliptune.texts.batch import TextBatch
from cliptune.texts.classes import ClassSet
from cliptune.texts.phrasing import ContextPhrasing, fits


@dataclass(frozen=True)
class AttributedPhrasing:
    """`[v] … [v] colour [v] … [v] shape [context] name.` with places for learned tokens.

    Args:
        context: of the host, whose name is last.
        attributes: words that stand fixed, each behind `each` learned tokens.
        each: m ≥ 1.

    The places of the attributes come first, then those of the context.
    Raises (call): ValueError for a vocabulary in which the placeholder is not one token, or texts that are too long.
    """

    context: ContextPhrasing
    attributes: tuple[str, ...]
    each: int

    def __call__(self, clip: CLIP, classes: ClassSet) -> TextBatch:
        context = self.context.written()
        pieces = [piece for word in self.attributes for piece in (" ".join(["X"] * self.each), word)]
        whole = " ".join([*pieces, context])
        if not fits(clip, f"{whole} a."):
            raise ValueError(
                f"AttributedPhrasing: {self.each} learned tokens in front of each of {len(self.attributes)} attributes "
                f"leave no room for a class name in the {clip.text.context} tokens that the text tower reads. Take "
                "fewer."
            )
        ends = [self._count(clip, " ".join(pieces[: i + 1])) for i in range(len(pieces))]
        places = [place for i in range(0, len(pieces), 2) for place in range([0, *ends][i], ends[i])]
        if len(places) != self.each * len(self.attributes):
            raise ValueError(
                f"AttributedPhrasing: the vocabulary of {clip.name} makes several tokens of the placeholder 'X', so "
                "that places for learned tokens cannot be counted. Use a backbone with CLIP's own vocabulary."
            )
        length = self._count(clip, whole)
        places += range(ends[-1], ends[-1] + self.context.n_ctx)
        texts = ContextPhrasing(length, whole)(clip, classes)
        return replace(texts, slots=texts.slots[:, torch.tensor(places, device=texts.slots.device)].contiguous())

    def _count(self, clip: CLIP, words: str) -> int:
        """Tokens of some words."""
        tokens = clip.tokenize([words])
        return int(tokens.eot[0]) - tokens.head
