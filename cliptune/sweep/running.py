"""Running one cell of a grid in its folder: made, taken up again, or found finished."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

from cliptune.protocols.by_spec import run
from cliptune.runs import read_result
from cliptune.sweep.cells import Cell
from cliptune.training.clock import Stopwatch
from cliptune.training.continued import HostRunMismatch
from cliptune.training.progress import Progress


@dataclass(frozen=True)
class Outcome:
    """What became of a cell.

    Args:
        cell: the run.
        seconds: that it took, now or when it was made; None if it failed.
        before: it was finished before.
        error: a sentence; None if all is well.
    """

    cell: Cell
    seconds: float | None = None
    before: bool = False
    error: str | None = None


def run_cell(cell: Cell, progress: str | Progress | None = "silent") -> Outcome:
    """Run a cell, go on with it, or find it finished. Whatever fails becomes the outcome's sentence."""
    watch = Stopwatch()
    try:
        before = read_result(cell.folder)
        with warnings.catch_warnings():
            # A reader's remarks would be repeated for each of the data set's runs; `data list` and `train` show them.
            warnings.filterwarnings("ignore", message="Dataset ", category=UserWarning)
            try:
                result = run(cell.spec, cell.folder, progress=progress, continues=cell.continues)
            except HostRunMismatch:  # the host failed, or its images have changed since: its stages are trained here
                result = run(cell.spec, cell.folder, progress=progress)
    except Exception as error:
        # One cell's defect must not cost the others their night; it is told at the end, with its kind if unforeseen.
        foreseen = isinstance(error, (ValueError, OSError)) and str(error)
        return Outcome(cell, error=str(error) if foreseen else f"{type(error).__name__}: {error}")
    if not result["evaluations"]:
        return Outcome(cell, error=f"{cell.spec.data.name} has no test or validation images, so nothing was scored.")
    if before is not None and before.get("evaluations") == result["evaluations"]:
        shared = (result.get("continues") or {"seconds": 0.0})["seconds"]
        return Outcome(cell, result["seconds"] - shared, before=True)
    return Outcome(cell, watch.seconds)
