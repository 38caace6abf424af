"""From class names to sentences with places for prompt tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, Protocol

import torch
from torch import Tensor

from cliptune.clip.model import CLIP, OffsetTokenizer
from cliptune.clip.tokens import TokenBatch
from cliptune.noted import few
from cliptune.reading import shown
from cliptune.texts.batch import TextBatch
from cliptune.texts.classes import ClassSet

Position = Literal["end", "middle", "front"]
POSITIONS = ("end", "middle", "front")


class Phrasing(Protocol):
    """How a method words its classes; called again whenever the classes change."""

    def __call__(self, clip: CLIP, classes: ClassSet) -> TextBatch: ...


def fits(clip: CLIP, sentence: str) -> bool:
    """Whether the text tower reads all tokens of a sentence."""
    # A token stands for at least one byte, two mark the ends, and one may be a space that a vocabulary puts in front:
    # most sentences need no second look.
    if len(sentence.encode()) + 3 <= clip.text.context:
        return True
    try:
        clip.tokenize([sentence])
    except ValueError:
        return False
    return True


def fitting_words(clip: CLIP, classes: ClassSet, templates: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The classes' names as they are written in sentences, each of which fits; and what is to be said of them.

    Args:
        templates: sentences with `{}`; a name must fit into all.
    Raises: ValueError for a name that is too long, unless `classes.truncate` has it cut after its last word that fits
        (within a word, where the first does not); or for two that are one text then.
    """
    words = [_fitting(clip, word, templates, classes.truncate) for word in classes.words]
    cut = [f"{was[:40]!r}… to {word!r}" for was, word in zip(classes.words, words, strict=True) if was != word]
    if not cut:
        return classes.words, ()
    alike = next(
        (word for was, word in zip(classes.words, words, strict=True) if was != word and words.count(word) > 1), ""
    )
    if alike:
        raise ValueError(f"Class names: two are one text once they are cut, {alike!r}. Shorten them yourself.")
    return tuple(words), (
        f"Class names: {len(cut)} of {len(words)} have more tokens than the text tower reads ({clip.text.context}) and "
        f"are cut after the last word that fits: {few(cut)}.",
    )


def _fitting(clip: CLIP, word: str, templates: Sequence[str], truncate: bool) -> str:
    def all_fit(name: str) -> bool:
        return all(fits(clip, template.replace("{}", name)) for template in templates)

    if all_fit(word):
        return word
    if not truncate:
        raise ValueError(
            f"The class name {shown(word)!r} is too long: in the sentence {templates[0]!r} it has more tokens than the "
            f"{clip.text.context} that the text tower reads. Shorten it, or have it cut after the last word that fits: "
            "--truncate (truncate=True in Python)."
        )
    for parts, between in ((word.split(" "), " "), (list(word.split(" ")[0]), "")):
        kept = next((n for n in range(len(parts) - 1, 0, -1) if all_fit(between.join(parts[:n]))), 0)
        if kept:
            return between.join(parts[:kept])
    raise ValueError(
        f"The sentence {templates[0]!r} leaves no room for a class name in the {clip.text.context} tokens that the "
        "text tower reads. Shorten the template, or take a smaller n_ctx."
    )


@dataclass(frozen=True)
class TemplatePhrasing:
    """Hand-written sentences, no prompt places.

    Args:
        templates: sentences with `{}`; empty for the classes' own template. More than one makes an ensemble:
            the mean of the unit features, normalised again (arXiv:2103.00020, Sec. 3.1.4).
        raw_mean: average the features of an ensemble before they are normalised (PromptSRC's release).
    """

    templates: tuple[str, ...] = ()
    raw_mean: bool = False

    def __call__(self, clip: CLIP, classes: ClassSet) -> TextBatch:
        templates = self.templates or (classes.template,)
        words, notes = fitting_words(clip, classes, templates)
        notes += tuple(glued(clip, words))
        tokens = clip.tokenize([t.replace("{}", word) for word in words for t in templates])
        if len(templates) == 1:
            return TextBatch.one_each(tokens, notes)
        class_of = torch.arange(len(classes), device=tokens.ids.device).repeat_interleave(len(templates))
        view_of = torch.zeros_like(class_of)
        of_all = (tokens.ids, tokens.slots, class_of, view_of, len(classes), True, self.raw_mean)
        return TextBatch(*of_all, notes=notes, **tokens.marks)


def words_for(method: str, words: str, n: int) -> tuple[str, tuple[str, ...]]:
    """The initial words of n learned tokens, "" for a random start where there are too few; and what to say then."""
    if n <= len(words.split()) or not words:
        return words, ()
    return "", (f"{method}: {words!r} has fewer words than the {n} learned tokens, which start at random instead.",)


def glued(clip: CLIP, names: Sequence[str]) -> list[str]:
    """What the tokenizer of a CLIP does to class names that a user would want to know, a sentence each."""
    return clip.tokenizer.notes(names) if isinstance(clip.tokenizer, OffsetTokenizer) else []


@dataclass(frozen=True)
class ContextPhrasing:
    """`[context] name.` with places for n learned tokens.

    Args:
        n_ctx: n ≥ 1, learned tokens.
        words: initial words of the context, one token each. The first `n_ctx` of them are places; the others stay
            as fixed words ("a photo of a" with n_ctx 2 reads `[v][v] of a name.`). Empty: n_ctx placeholders.
        position: of the learned tokens around the name, "end" (name last), "middle" or "front" (arXiv:2109.01134,
            Sec. 3.1). In "middle" the first n // 2 stand before the name.

    In "middle" and "front" the tokens of the name alone are counted, as in the released code: where a name ends in
    punctuation, its last sign and the full stop are one token and move together.
    """

    n_ctx: int
    words: str = ""
    position: Position = "end"

    def __post_init__(self) -> None:
        if self.n_ctx < 1:
            raise ValueError(f"ContextPhrasing: n_ctx must be at least 1, got {self.n_ctx}.")
        if self.position not in POSITIONS:
            raise ValueError(f"ContextPhrasing: position must be one of {', '.join(POSITIONS)}, got {self.position!r}.")

    def lead(self, clip: CLIP) -> Tensor:
        """Token ids of the context as words, (n + fixed words,).

        Raises: ValueError if there are fewer words than n_ctx, or fixed words where the name is not last.
        """
        words = self.written()
        if not self.words and isinstance(clip.tokenizer, OffsetTokenizer):
            # A placeholder may be several tokens of that vocabulary; one of them stands for each place.
            return torch.tensor(clip.tokenizer.pieces(words)[1][:1] * self.n_ctx, device=clip.device)
        tokens = clip.tokenize([words])
        ids = tokens.ids[0, tokens.head : int(tokens.eot[0])]
        if len(ids) < self.n_ctx:
            raise ValueError(
                f"ContextPhrasing: {words!r} has {len(ids)} tokens, but n_ctx is {self.n_ctx}. "
                f"Use n_ctx={len(ids)}, more words, or words='' for a random start."
            )
        if len(ids) > self.n_ctx and self.position != "end":
            raise ValueError(
                f"ContextPhrasing: with position {self.position!r} all words are learned, so n_ctx must be {len(ids)} "
                f"for {words!r}, got {self.n_ctx}."
            )
        return ids

    def __call__(self, clip: CLIP, classes: ClassSet) -> TextBatch:
        lead = self.lead(clip)
        words, notes = fitting_words(clip, classes, [f"{self.written()} {{}}."])
        if isinstance(clip.tokenizer, OffsetTokenizer):
            return self._by_offsets(clip, clip.tokenizer, lead, words, notes)
        tokens = clip.tokenize([f"{self.written()} {name}." for name in words])
        names = clip.tokenize(list(words))
        ids, slots = tokens.ids.clone(), torch.empty(len(tokens), self.n_ctx, dtype=torch.int64, device=lead.device)
        n, half = self.n_ctx, {"end": self.n_ctx, "middle": self.n_ctx // 2, "front": 0}[self.position]
        for row, length in enumerate((names.eot - 1).tolist()):
            if self.position != "end":
                name = tokens.ids[row, 1 + n : 1 + n + length]
                ids[row, 1 + half : 1 + n + length] = torch.cat([name, lead[half:]])
            place = torch.arange(1, 1 + n, device=lead.device)
            slots[row] = torch.where(place <= half, place, place + length)
        return replace(TextBatch.one_each(TokenBatch(ids, slots)), notes=notes)

    def _by_offsets(
        self, clip: CLIP, tokenizer: OffsetTokenizer, lead: Tensor, words: Sequence[str], notes: tuple[str, ...]
    ) -> TextBatch:
        """The same where words are not counted in tokens of OpenAI's vocabulary: a name's tokens are those that begin
        at or after the space in front of it, and before its end.
        """
        n, half = self.n_ctx, {"end": self.n_ctx, "middle": self.n_ctx // 2, "front": 0}[self.position]
        context = lead.tolist()
        cut = len(context) if self.position == "end" else half  # what follows the learned words stays with them
        rows, lengths = [], []
        before = len(tokenizer.pieces("X")[0])
        for word in words:
            end = before + 1 + len(tokenizer.pieces(word)[0])
            _, written, starts = tokenizer.pieces(f"X {word}.")
            first, last = (sum(at < edge for at in starts) for edge in (before, end))
            rows.append([*context[:cut], *written[first:last], *context[cut:], *written[last:]])
            lengths.append(last - first)
        ids = tokenizer.framed(rows, clip.text.context).to(clip.device)
        marks = tokenizer.marks(ids)
        place = torch.arange(n, device=ids.device)
        after = torch.tensor(lengths, device=ids.device)[:, None]
        slots = marks["head"] + torch.where(place < half, place, place + after)
        return TextBatch.one_each(TokenBatch(ids, slots, **marks), (*notes, *glued(clip, words)))

    def written(self) -> str:
        """The context as words, placeholders where it has none."""
        return " ".join(self.words.replace("_", " ").split()) or " ".join(["X"] * self.n_ctx)

    def start(self, clip: CLIP) -> Tensor:
        """Word embeddings of the first n_ctx words, (n, d) float32; N(0, 0.02²) where no words are given."""
        if not self.words:
            return 0.02 * torch.randn(self.n_ctx, clip.text.width)
        return clip.text.token_embedding(self.lead(clip)[: self.n_ctx]).detach().float().clone()
