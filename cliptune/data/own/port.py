"""What a format of lists of pictures is: one file in `formats`, with a `FORMAT` that says all of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cliptune.data.own.opened import Opened
from cliptune.data.own.rows import Content


@dataclass(frozen=True)
class Predicted:
    """A picture and what a run says of it.

    Args:
        path: of the picture.
        size: (width, height) in pixels.
        classes: (name, probability in [0, 1]), the most probable first.
        among: names of the classes that a calibrated run is left with, the most probable first; None without sets.
    """

    path: str
    size: tuple[int, int]
    classes: Sequence[tuple[str, float]]
    among: Sequence[str] | None = None


@dataclass(frozen=True)
class Format:
    """One format.

    Args:
        title: what sentences call it.
        files: what its files are called in a folder that a tool wrote, as glob patterns.
        recognises: whether a file is of it, by its content; never raises for bad content.
        read: (file, column that was asked for by meaning) → its rows. Raises: ValueError with a sentence.
        columns: whether `read` looks at the columns that were asked for.
        write: (predictions, names of all classes) → the content of a file, where the format can hold predictions.
        key: what `cliptune predict --format` calls it.
    """

    title: str
    files: Sequence[str]
    recognises: Callable[[Opened], bool]
    read: Callable[[Opened, Mapping[str, str]], Content]
    columns: bool = False
    write: Callable[[Sequence[Predicted], Sequence[str]], str] | None = None
    key: str = ""

    def who(self, path: Path) -> str:
        """What sentences on a file of it begin with."""
        return f"{self.title} {path}"
