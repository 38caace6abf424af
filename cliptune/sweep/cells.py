"""One run of a sweep, and what it stands on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cliptune.runs.spec import RunSpec


@dataclass(frozen=True)
class Cell:
    """A run, its place, and the runs that it waits for.

    Args:
        spec: the run.
        folder: of the run.
        continues: folder of the host's run whose end stands for the first stages; None trains them.
        after: folders of the runs that have to be there first.
    """

    spec: RunSpec
    folder: Path = Path()
    continues: Path | None = None
    after: tuple[Path, ...] = ()

    @property
    def title(self) -> str:
        """For people."""
        return self.spec.title
