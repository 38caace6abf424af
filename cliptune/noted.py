"""Sentences on what was skipped, replaced, cut or guessed: notes of a result, and warnings of who works in Python."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence


class NotedWarning(UserWarning):
    """A warning whose sentence also stands among the notes of what was read or built, and is shown from there."""


def warn(sentence: str, stacklevel: int = 2) -> None:
    """Warn the caller of a sentence that is noted as well; `stacklevel` as in `warnings.warn`."""
    warnings.warn(sentence, NotedWarning, stacklevel=stacklevel + 1)


def once(*notes: Iterable[str]) -> tuple[str, ...]:
    """The sentences of all, each once, in order."""
    return tuple(dict.fromkeys(sentence for some in notes for sentence in some))


def few(names: Iterable[object], most: int = 3) -> str:
    """The first names, and how many more there are: "a, b, c and 2 more"."""
    known = [str(name) for name in names]
    return ", ".join(known[:most]) + (f" and {len(known) - most} more" if len(known) > most else "")


def spoken_names(who: str, raw_names: Sequence[str], read_as: Sequence[str]) -> list[str]:
    """What is to be said of class names, in the order of both: those that are read in another way, and mere numbers."""
    other = [f"{raw!r} as {name!r}" for raw, name in zip(raw_names, read_as, strict=True) if raw != name]
    notes = (
        [f"{who}: {len(other)} of {len(raw_names)} class names are read in other words: {few(other)}."] if other else []
    )
    if raw_names and all(raw.isdigit() for raw in raw_names):
        notes.append(f"{who}: the classes are numbers, which tell CLIP nothing. Name them in words.")
    return notes
