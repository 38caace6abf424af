"""Durations that are never negative, whatever the clock does, and how far something is that lasts."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")

SHOWN_EVERY = 10.0
"""Seconds between two lines on how far something is that takes no optimiser steps."""


class Stopwatch:
    """Seconds since it was made. Where the clock goes back, as after a virtual machine was moved, no time has passed.

    A watch that was only compared with its start would wait as long as the clock went back: for saving the state, for
    showing a line.
    """

    def __init__(self) -> None:
        self._at = time.monotonic()
        self._seconds = 0.0

    @property
    def seconds(self) -> float:
        """Since it was made, ≥ 0."""
        self._seconds += self._since_last_look()
        return self._seconds

    def _since_last_look(self) -> float:
        before, self._at = self._at, time.monotonic()
        return max(self._at - before, 0.0)


def counted(parts: Iterable[T], total: int, what: str, say: Callable[[str], None] | None) -> Iterator[T]:
    """The same parts; now and then it is said how far they are, and the time left.

    Args:
        total: how many parts there are.
        what: is done, such as "Embedding 20,000 images".
        say: gets the lines; None for nobody.
    """
    started, shown = Stopwatch(), Stopwatch()
    for done, part in enumerate(parts, 1):
        yield part
        if say is not None and done < total and shown.seconds >= SHOWN_EVERY:
            say(f"{what}: {100 * done / total:.0f} % done, {time_left(started.seconds, done / total)} left")
            shown = Stopwatch()


def time_left(seconds: float, share: float) -> str:
    """For what took so many seconds up to a share in (0, 1]."""
    return duration(seconds / share * (1 - share))


def duration(seconds: float) -> str:
    """A time in words short enough for a line: "42 s", "3 min 10 s", "2 h 5 min"."""
    whole = round(max(seconds, 0))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
