"""What the user sees while training: a bar with time left on a terminal, plain lines elsewhere, or nothing."""

from __future__ import annotations

import sys
from typing import Protocol, TextIO

from cliptune.timing import Stopwatch, duration


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
