"""Running the cells of a grid, each in a folder of its own.

Every cell may be asked for again at any time: a finished run is recognised by its folder's configuration, a broken one
goes on where it stopped. A cell that fails is reported and does not stop the others.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

from cliptune.results.tables import Row, collect, rows
from cliptune.sweep.cells import Cell
from cliptune.sweep.running import Outcome, run_cell
from cliptune.sweep.sharing import Waiting
from cliptune.training.progress import Progress

if TYPE_CHECKING:
    from cliptune.sweep.ray_engine import RayEngine


Watch = Callable[[Outcome, int, int, float | None], None]
"""Called after each cell with its outcome, the cells done, all cells, and the seconds left, None if unknown."""


def run_grid(
    cells: Sequence[Cell],
    *,
    workers: int = 0,
    ray: RayEngine | None = None,
    watch: Watch | None = None,
    inside: Callable[[Cell], Progress] | None = None,
) -> list[Outcome]:
    """Run all cells, each after those that it stands on; those that fail do not stop the others.

    Args:
        workers: processes that run cells, with one thread each; 0 runs them here, one after another.
        ray: runs them on a Ray cluster instead.
        watch: told of every outcome as it comes.
        inside: what shows the progress of the cell that runs here; not asked with workers or a cluster.
    Returns: outcomes in the order of `cells`.
    Raises: ValueError for a negative number of workers, or for workers and a cluster at once; what `ray` raises.
    """
    if workers < 0:
        raise ValueError(f"bench: workers must be at least 0, got {workers}.")
    if workers and ray is not None:
        raise ValueError(f"bench: the cluster decides how many runs are made side by side, got {workers} workers too.")
    done: dict[Path, Outcome] = {}
    for outcome in _outcomes(cells, workers, inside) if ray is None else ray.run(cells):
        done[outcome.cell.folder] = outcome
        if watch is not None:
            waiting = [cell for cell in cells if cell.folder not in done]
            side_by_side = max(workers, 1) if ray is None else ray.side_by_side
            watch(outcome, len(done), len(cells), _seconds_left(list(done.values()), waiting, side_by_side))
    return [done[cell.folder] for cell in cells]


def grid_rows(outcomes: Sequence[Outcome]) -> list[Row]:
    """The table of the cells that are finished; empty if none is."""
    finished = [outcome.cell.folder for outcome in outcomes if outcome.error is None]
    return rows(run for folder in finished for run in collect(folder))


def _outcomes(cells: Sequence[Cell], workers: int, inside: Callable[[Cell], Progress] | None) -> Iterator[Outcome]:
    if workers:
        from cliptune.sweep.workers import run_in_workers

        yield from run_in_workers(cells, workers)
        return
    waiting = Waiting(cells)
    while (cell := waiting.take()) is not None:
        yield run_cell(cell, "silent" if inside is None else inside(cell))
        waiting.ended(cell)


def _seconds_left(done: Sequence[Outcome], waiting: Sequence[Cell], workers: int) -> float | None:
    """From what cells of the same method took, or of any method where it has none yet; None if nothing is known.

    A run that was finished before tells of its own method only: its time is that of training, without opening data.
    """
    took: dict[str, list[float]] = defaultdict(list)
    for outcome in done:
        if outcome.seconds is not None:
            took[outcome.cell.spec.method].append(outcome.seconds)
    now = [outcome.seconds for outcome in done if outcome.seconds is not None and not outcome.before]
    if not now and any(cell.spec.method not in took for cell in waiting):
        return None
    return sum(fmean(took.get(cell.spec.method) or now) for cell in waiting) / workers
