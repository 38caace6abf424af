"""What the user sees while training: a bar with time left on a terminal, plain lines elsewhere, or nothing."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol, TextIO, TypeVar

from cliptune.training.clock import Stopwatch

T = TypeVar("T")

SHOWN_EVERY = 10.0
"""Seconds between two lines on how far something is that takes no optimiser steps."""


class Progress(Protocol):
    """Shows how far a run is. All counts are optimiser steps over the whole run."""

    def start(self, total: int, done: int) -> None:
        """`done` of `total` steps were taken before (a resumed run)."""

    def advance(self, description: str) -> None:
        """One more step is done."""

    def say(self, line: str, minor: bool = False) -> None:
        """Show a line; one that is `minor` (an epoch's summary) may be left out when there is no room for all."""

    def close(self) -> None: ...


class Silent:
    """Shows nothing."""

    def start(self, total: int, done: int) -> None:
        pass

    def advance(self, description: str) -> None:
        pass

    def say(self, line: str, minor: bool = False) -> None:
        pass

    def close(self) -> None:
        pass


class Lines:
    """Plain lines for logs and pipes: at most one minor line or progress line in `every` seconds."""

    def __init__(self, stream: TextIO | None = None, every: float = 10.0):
        self._stream = sys.stderr if stream is None else stream
        self._every = every
        self._total = self._done = self._before = 0
        self._since_start, self._since_shown = Stopwatch(), Stopwatch()

    def start(self, total: int, done: int) -> None:
        self._total, self._done, self._before = total, done, done
        self._since_start, self._since_shown = Stopwatch(), Stopwatch()

    def advance(self, description: str) -> None:
        self._done += 1
        if self._due():
            left = self._since_start.seconds / (self._done - self._before) * (self._total - self._done)
            share = 100 * self._done / max(self._total, 1)
            self._print(f"{description}: step {self._done} of {self._total} ({share:.0f} %), {duration(left)} left")

    def say(self, line: str, minor: bool = False) -> None:
        if not minor or self._due():
            self._print(line)

    def close(self) -> None:
        pass

    def _due(self) -> bool:
        return self._since_shown.seconds >= self._every

    def _print(self, line: str) -> None:
        self._since_shown = Stopwatch()
        print(line, file=self._stream, flush=True)


class Bar:
    """A bar on the terminal's standard error, with the time left."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as RichProgress

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self._bar = RichProgress(*columns, console=Console(stderr=True), transient=True)
        self._task = self._bar.add_task("starting", total=None)

    def start(self, total: int, done: int) -> None:
        self._bar.update(self._task, total=total, completed=done)
        self._bar.start()

    def advance(self, description: str) -> None:
        self._bar.update(self._task, advance=1, description=description)

    def say(self, line: str, minor: bool = False) -> None:
        if not minor:
            self._bar.console.print(line, markup=False, highlight=False)

    def close(self) -> None:
        self._bar.stop()


def open_progress(progress: str | Progress | None) -> Progress:
    """None: a bar on a terminal, plain lines elsewhere. "bar", "lines" or "silent" choose; an object is taken as it is.

    Raises: ValueError for another word.
    """
    if progress is None:
        progress = "bar" if sys.stderr.isatty() else "lines"
    if not isinstance(progress, str):
        return progress
    if progress == "bar":
        return Bar()
    if progress == "lines":
        return Lines()
    if progress == "silent":
        return Silent()
    raise ValueError(f"progress must be 'bar', 'lines', 'silent' or an object that shows it, got {progress!r}.")


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
