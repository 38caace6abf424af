"""Classes worded by sentences about them, of which some are drawn."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Literal

import torch

from cliptune.clip.model import CLIP
from cliptune.noted import few, warn
from cliptune.texts.batch import TextBatch
from cliptune.texts.classes import ClassSet
from cliptune.texts.descriptions import (
    DESCRIBING,
    DISTINGUISHING,
    MIN_LENGTH,
    USUAL,
    Descriptions,
    attribute_sets,
    sentences_of,
    template_bank,
    usable,
)
from cliptune.texts.phrasing import fits

Replacement = Literal["needed", "never", "reference"]
Stream = Literal["own", "reference"]


@dataclass(frozen=True)
class DescriptionPhrasing:
    """m sentences of each set for each class; class-major, within a class set by set.

    Args:
        sets: names in `ClassSet.descriptions`; all of one number of sentences for every class.
        m: per class and set. None takes 20, or as many different usable ones as the poorest class has.
        seed: of the draw.
        views: None: all look at view 0. Otherwise the view of each set, by its place in `sets`.
        replacement: where a class has fewer than m usable sentences: "needed" repeats as few as possible, with a
            warning; "never" raises. "reference" is the published rule: with replacement whenever there are not more
            than m, so that m of m are about 13 different ones of 20.
        rng: "own" gives every set its own stream, so that no draw moves another; "reference" draws all from one
            stream of `random.seed(seed)`, set by set and class by class, as released.
        min_length: characters of a usable sentence.
    What is passed over, drawn twice, cut or put in the place of descriptions stands in the notes of the texts.
    Raises (call): ValueError for a missing set, a class without an entry or without usable sentences.
    Source: sampling rule of AttrVR (arXiv:2501.13982) and DVP (arXiv:2506.01000) as released.
    """

    sets: tuple[str, ...]
    m: int | None = None
    seed: int = 1
    views: tuple[int, ...] | None = None
    replacement: Replacement = "needed"
    rng: Stream = "own"
    min_length: int = MIN_LENGTH

    def __post_init__(self) -> None:
        if self.m is not None and self.m < 1:
            raise ValueError(f"Descriptions: m must be at least 1 per class and set, or None, got {self.m}.")
        for option, value, known in (
            ("replacement", self.replacement, ("needed", "never", "reference")),
            ("rng", self.rng, ("own", "reference")),
        ):
            if value not in known:
                raise ValueError(f"Descriptions: {option} must be one of {', '.join(known)}, got {value!r}.")

    def __call__(self, clip: CLIP, classes: ClassSet) -> TextBatch:
        notes: list[str] = []
        drawn = self._drawn(classes, notes)
        flat = [sentence for c in range(len(classes)) for name in self.sets for sentence in drawn[name][c]]
        tokens = clip.tokenize(_fitting(clip, flat, notes))
        sizes = [len(drawn[name][0]) for name in self.sets]
        device = tokens.ids.device
        set_of = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes)).repeat(len(classes)).to(device)
        class_of = torch.arange(len(classes), device=device).repeat_interleave(sum(sizes))
        view_of = torch.zeros_like(set_of) if self.views is None else torch.tensor(self.views, device=device)[set_of]
        return TextBatch(tokens.ids, tokens.slots, class_of, view_of, len(classes), set_of=set_of, notes=tuple(notes))

    def sizes(self, classes: ClassSet) -> tuple[int, ...]:
        """Sentences per class of each set."""
        return tuple(len(chosen[0]) for chosen in self.sentences(classes).values())

    def sentences(self, classes: ClassSet) -> dict[str, list[list[str]]]:
        """Set → class by class → the drawn sentences, the same at every call."""
        return self._drawn(classes, [])

    def _drawn(self, classes: ClassSet, notes: list[str]) -> dict[str, list[list[str]]]:
        """As `sentences`; what is to be said of it is added to the notes."""
        descriptions, made = classes.descriptions, False
        if not descriptions:
            descriptions = template_bank(classes, self.sets)
            notes.append(
                "Descriptions: there are none, so hand-written templates stand in, which say only the name. `cliptune "
                "describe` writes some, and --descriptions gives them."
            )
        if not set(self.sets) <= set(descriptions) and set(self.sets) <= {DESCRIBING, DISTINGUISHING}:
            missing, made = [name for name in self.sets if name not in descriptions], True
            notes.append(f"Descriptions: {' and '.join(missing)} are not given and were made of {few(descriptions)}.")
            descriptions = attribute_sets(descriptions)
        for name in self.sets:
            if name not in descriptions:
                raise ValueError(
                    f"Descriptions: there is no set {name!r}; there are {', '.join(descriptions)}. "
                    "Name one of these, or read the file of that set."
                )
        shared = random.Random(self.seed)
        drawn: dict[str, list[list[str]]] = {}
        for name in self.sets:
            own = shared if self.rng == "reference" else random.Random(f"{self.seed}/{name}")
            pools = [self._usable(descriptions, name, c) for c in classes.names]
            notes += self._unused(descriptions, name, classes, pools)
            drawn[name] = self._draw(name, pools, classes, own, notes)
        unused = [repr(name) for name in descriptions if name not in self.sets]
        if unused and not made:
            notes.append(f"Descriptions: no text is drawn from {few(unused)}.")
        return drawn

    def _unused(self, descriptions: Descriptions, name: str, classes: ClassSet, pools: list[list[str]]) -> list[str]:
        """What of a set's sentences is not looked at, and which names were found in another spelling."""
        short = sum(len(sentences_of(descriptions, name, c)) for c in classes.names) - sum(map(len, pools))
        other = [repr(c) for c in classes.names if c not in descriptions[name]]
        said = (
            (short, f"{short} sentences have fewer than {self.min_length} characters and were passed over."),
            (len(other), f"entries in another spelling were taken for {few(other)}."),
        )
        return [f"Descriptions, set {name!r}: {sentence}" for n, sentence in said if n]

    def _usable(self, descriptions: Descriptions, name: str, class_name: str) -> list[str]:
        given = sentences_of(descriptions, name, class_name)
        kept = usable(given, self.min_length)
        if not kept:
            raise ValueError(
                f"Descriptions: the class {class_name!r} has no usable sentence in the set {name!r}: of {len(given)} "
                f"none has {self.min_length} characters or more. Write some, or lower min_length."
            )
        return kept

    def _draw(
        self, name: str, pools: list[list[str]], classes: ClassSet, generator: random.Random, notes: list[str]
    ) -> list[list[str]]:
        if self.replacement == "reference":
            m = self.m or USUAL
            return [generator.sample(p, m) if m < len(p) else generator.choices(p, k=m) for p in pools]
        if self.m is None:
            given, pools = pools, [list(dict.fromkeys(pool)) for pool in pools]
            repeated = sum(map(len, given)) - sum(map(len, pools))
            if repeated:
                notes.append(f"Descriptions, set {name!r}: {repeated} sentences stand there twice and count once.")
            m = min(USUAL, *(len(pool) for pool in pools))
            if m < USUAL:
                notes.append(
                    f"Descriptions, set {name!r}: m was left out and is {m}, the sentences of the poorest class, not "
                    f"{USUAL}."
                )
            return [generator.sample(pool, m) for pool in pools]
        short = [f"{c!r} ({len(p)})" for c, p in zip(classes.names, pools, strict=True) if len(p) < self.m]
        if short:
            sentence = (
                f"Descriptions: {len(short)} of {len(pools)} classes have fewer than m = {self.m} usable sentences in "
                f"the set {name!r}: {', '.join(short[:5])}{' and more' if len(short) > 5 else ''}."
            )
            if self.replacement == "never":
                raise ValueError(f"{sentence} Lower m, add sentences, or allow replacement.")
            notes.append(f"{sentence} Some of theirs are used more than once.")
            warn(notes[-1])
        # whole rounds of the pool first, so that no sentence comes twice before all came once
        return [p * (self.m // len(p)) + generator.sample(p, self.m % len(p)) for p in pools]


def _fitting(clip: CLIP, sentences: list[str], notes: list[str]) -> list[str]:
    """The sentences; those with more tokens than the text tower takes are cut after the last word that fits."""
    fitting = [_cut(clip, sentence) for sentence in sentences]
    changed = sum(a != b for a, b in zip(sentences, fitting, strict=True))
    if changed:
        notes.append(
            f"Descriptions: {changed} of {len(sentences)} sentences have more than {clip.text.context} tokens and are "
            "cut after the last word that fits."
        )
        warn(notes[-1], stacklevel=3)
    return fitting


def _cut(clip: CLIP, sentence: str) -> str:
    words = sentence.split(" ")
    while not fits(clip, " ".join(words)):
        words.pop()
    return " ".join(words)
