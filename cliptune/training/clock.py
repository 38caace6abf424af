"""Durations that are never negative, whatever the clock does."""

from __future__ import annotations

import time


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
