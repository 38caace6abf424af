"""Where a run speaks: the terminal, `log.txt`, the caller's own function, and trackers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from cliptune.runs.folder import RunFolder
from cliptune.training.progress import Progress
from cliptune.training.trackers import Tracker


class Reporter:
    """Passes lines, steps and metrics on. On a process that is not the first, everything is left out.

    Args:
        progress: shows them; None for a process that stays silent.
        folder: its `log.txt` gets every line.
        log: gets every line.
        trackers: get the numbers of every epoch.
    """

    def __init__(
        self,
        progress: Progress | None,
        folder: RunFolder | None = None,
        log: Callable[[str], None] | None = None,
        trackers: Sequence[Tracker] = (),
    ):
        self._progress, self._folder, self._log, self._trackers = progress, folder, log, trackers

    def start(self, total: int, done: int) -> None:
        if self._progress is not None:
            self._progress.start(total, done)

    def advance(self, description: str) -> None:
        if self._progress is not None:
            self._progress.advance(description)

    def say(self, line: str, minor: bool = False) -> None:
        """A line; one that is `minor` may be left out on the terminal, never in the log."""
        if self._progress is None:
            return
        self._progress.say(line, minor)
        if self._folder is not None:
            self._folder.log(line)
        if self._log is not None:
            self._log(line)

    def metrics(self, line: dict[str, Any], epochs_done: int) -> None:
        if self._progress is None or not self._trackers:
            return
        stage = line["stage"]
        numbers = {**line, **{f"parts/{name}": value for name, value in line.get("parts", {}).items()}}
        values = {
            f"{stage}/{name}": value
            for name, value in numbers.items()
            if isinstance(value, float) or (isinstance(value, int) and not isinstance(value, bool))
        }
        for tracker in self._trackers:
            tracker.log(values, epochs_done)

    def close(self) -> None:
        if self._progress is not None:
            self._progress.close()
        for tracker in self._trackers:
            tracker.close()
