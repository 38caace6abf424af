"""Trainings that end when they would not be done in time."""

from __future__ import annotations

from bisect import insort

from cliptune.timing import Stopwatch, duration

# A training is judged by its own pace once it has taken so many steps and seconds.
STEPS, SECONDS = 5, 1.0


class OutOfTime(Exception):
    """What was begun would not be done in time.

    Args:
        needed: seconds that all of it would take from its beginning.
    """

    def __init__(self, needed: float) -> None:
        super().__init__(f"it would take {duration(needed)}")
        self.needed = needed


class Deadline:
    """A `Progress` that shows nothing and stops a training which is too slow.

    Args:
        left: seconds that are left for this training and all that follow it.
        times: how often as long as this training all of them take, at least 1.
    """

    def __init__(self, left: float, times: float) -> None:
        self._left, self._times = left, times
        self._watch = Stopwatch()
        self._total, self._last = 0, 0.0
        self._steps: list[float] = []

    def start(self, total: int, done: int) -> None:
        self._total, self._last, self._steps = total - done, self._watch.seconds, []

    def advance(self, description: str) -> None:
        """Raises: OutOfTime."""
        now = self._watch.seconds
        insort(self._steps, now - self._last)
        self._last, done = now, len(self._steps)
        if done >= STEPS and now >= SECONDS:
            # The middle one, because steps that embed new views of the images take much longer, and are few.
            self.check(now + self._steps[done // 2] * (self._total - done))

    def check(self, seconds: float) -> None:
        """Raises: OutOfTime if this training takes so many seconds and not all of them are left."""
        if seconds * self._times > self._left:
            raise OutOfTime(seconds * self._times)

    def say(self, line: str, minor: bool = False) -> None:
        """A head that searches has no steps; it is stopped when all time is gone. Raises: OutOfTime."""
        self.check(self._watch.seconds)

    def close(self) -> None:
        pass
