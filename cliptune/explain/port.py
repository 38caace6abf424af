"""The port of an explanation: one class in one file of `cliptune/explain/kinds`, found by itself."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Generic, TypeVar

from cliptune.analysis.finding import Finding

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from cliptune.explain.opened import OpenedRun

Found = TypeVar("Found", bound=Finding)


class Explanation(ABC, Generic[Found]):
    """One question that can be asked of a finished run.

    Attributes:
        name: as on the command line, with hyphens.
        title: heading above its pictures.
        source: where the formula is from: arXiv id with figure or equation, or "ours".
        place: where it stands on a page: 10 what came out, 20 what was learned, 30 what happens inside.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    source: ClassVar[str]
    place: ClassVar[int] = 30

    def why_not(self, run: OpenedRun) -> str | None:
        """A sentence why this run cannot be asked, or None; decided without reading images."""
        return None

    @abstractmethod
    def explain(self, run: OpenedRun) -> Found:
        """The answer. Raises: ValueError with a sentence where only the images show that there is none."""

    def draw(self, found: Found) -> Mapping[str, Figure]:
        """Pictures by name, in the order of the page; see `cliptune.explain.figures` for colours and sizes."""
        return {}

    def captions(self, found: Found) -> Mapping[str, str]:
        """What is seen in a picture, by its name: a sentence that names the number. Left out where the answer's own
        sentence says it, as for a picture that is alone."""
        return {}
