"""Running one cell of a grid in its folder: made, taken up again, or found finished."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

from cliptune.noted import NotedWarning
from cliptune.protocols.by_spec import run
from cliptune.runs import read_result
from cliptune.runs.manifest import write_result
from cliptune.sweep.cells import Cell
from cliptune.timing import Stopwatch
from cliptune.training.continued import HostRunMismatch
from cliptune.training.fit import add_notes
from cliptune.training.progress import Progress


@dataclass(frozen=True)
class Outcome:
    """What became of a cell.

    Args:
        cell: the run.
        seconds: that it took, now or when it was made; None if it failed.
        before: it was finished before.
        error: a sentence; None if all is well.
        notes: of its result.
    """

    cell: Cell
    seconds: float | None = None
    before: bool = False
    error: str | None = None
    notes: tuple[str, ...] = ()


def run_cell(cell: Cell, progress: str | Progress | None = "silent") -> Outcome:
    """Run a cell, go on with it, or find it finished. Whatever fails becomes the outcome's sentence."""
    watch = Stopwatch()
    try:
        before = read_result(cell.folder)
        with warnings.catch_warnings():
            # They stand in the results and are shown once for all runs.
            warnings.simplefilter("ignore", NotedWarning)
            try:
                result = run(cell.spec, cell.folder, progress=progress, continues=cell.continues)
            except HostRunMismatch as mismatch:  # the host failed, or its images have changed since
                result = run(cell.spec, cell.folder, progress=progress)
                add_notes(result, f"bench: the host's stages were trained here. {mismatch}")
                write_result(cell.folder, result)
    except Exception as error:
        # One cell's defect must not cost the others their night; it is told at the end, with its kind if unforeseen.
        foreseen = isinstance(error, (ValueError, OSError)) and str(error)
        return Outcome(cell, error=str(error) if foreseen else f"{type(error).__name__}: {error}")
    notes = tuple(result.get("notes", ()))
    if not result["evaluations"]:
        return Outcome(cell, error=f"{cell.spec.data.name} has no test or validation images, so nothing was scored.")
    if before is not None and before.get("evaluations") == result["evaluations"]:
        shared = (result.get("continues") or {"seconds": 0.0})["seconds"]
        return Outcome(cell, result["seconds"] - shared, before=True, notes=notes)
    return Outcome(cell, watch.seconds, notes=notes)
