"""Running the cells of a grid, each in a folder of its own.

Every cell may be asked for again at any time: a finished run is recognised by its folder's configuration, a broken one
goes on where it stopped. A cell that fails is reported and does not stop the others.
"""

from __future__ import annotations

import json
import time
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from cliptune.clip.load import load_clip
from cliptune.clip.model import CLIP
from cliptune.data.catalog import load_data
from cliptune.data.items import Dataset
from cliptune.protocols.base_to_new import base2new
from cliptune.protocols.cells import Cell
from cliptune.protocols.data_efficiency import data_efficient
from cliptune.protocols.few_shot_learning import few_shot
from cliptune.protocols.sharing import Waiting
from cliptune.protocols.tables import Row, collect, rows
from cliptune.protocols.transfer import cross_dataset, domain_generalization
from cliptune.training import read_result
from cliptune.training.continued import NotItsBeginning
from cliptune.training.progress import Progress

if TYPE_CHECKING:
    from cliptune.protocols.ray_engine import RayEngine


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


Watch = Callable[[Outcome, int, int, float | None], None]
"""Called after each cell with its outcome, the cells done, all cells, and the seconds left, None if unknown."""


def run_cell(cell: Cell, progress: str | Progress | None = "silent") -> Outcome:
    """Run a cell, go on with it, or find it finished. Whatever fails becomes the outcome's sentence."""
    started = time.monotonic()
    try:
        before = read_result(cell.folder)
        with warnings.catch_warnings():
            # A reader's remarks would be repeated for each of the data set's runs; `data list` and `train` show them.
            warnings.filterwarnings("ignore", message="Dataset ", category=UserWarning)
            try:
                result = _run(cell, cell.continues, progress)
            except NotItsBeginning:  # the host failed, or its images have changed since: its stages are trained here
                result = _run(cell, None, progress)
    except Exception as error:
        # One cell's defect must not cost the others their night; it is told at the end, with its kind if unforeseen.
        foreseen = isinstance(error, (ValueError, OSError)) and str(error)
        return Outcome(cell, error=str(error) if foreseen else f"{type(error).__name__}: {error}")
    if not result["evaluations"]:
        return Outcome(cell, error=f"{cell.source['name']} has no test or validation images, so nothing was scored.")
    if before is not None and before.get("evaluations") == result["evaluations"]:
        shared = (result.get("continues") or {"seconds": 0.0})["seconds"]
        return Outcome(cell, result["seconds"] - shared, before=True)
    return Outcome(cell, time.monotonic() - started)


def _run(cell: Cell, continues: Path | None, progress: str | Progress | None) -> dict[str, Any]:
    return _protocol(cell.protocol)(
        cell.method,
        _clip(cell.backbone, tuple(sorted(cell.loading.items()))),
        _dataset(json.dumps(dict(cell.source), sort_keys=True)),
        **_arguments(cell),
        seed=cell.seed,
        out=cell.folder,
        options=cell.options,
        source=cell.source,
        progress=progress,
        **cell.training,
        **({} if continues is None else {"continues": continues}),
    )


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
        from cliptune.protocols.workers import run_in_workers

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
            took[outcome.cell.method].append(outcome.seconds)
    now = [outcome.seconds for outcome in done if outcome.seconds is not None and not outcome.before]
    if not now and any(cell.method not in took for cell in waiting):
        return None
    return sum(fmean(took.get(cell.method) or now) for cell in waiting) / workers


def _protocol(name: str) -> Callable[..., dict[str, Any]]:
    known: dict[str, Callable[..., dict[str, Any]]] = {
        "base2new": base2new,
        "few_shot": few_shot,
        "cross": cross_dataset,
        "domains": domain_generalization,
        "data_efficient": data_efficient,
    }
    return known[name]


def _arguments(cell: Cell) -> dict[str, Any]:
    """What the cell's protocol takes besides what all take."""
    more = dict(cell.asked)
    if "targets" in more:
        more["targets"] = [_target(json.dumps(dict(source), sort_keys=True)) for source in more["targets"]]
    return more if cell.protocol == "data_efficient" else {"shots": cell.shots, **more}


@lru_cache(maxsize=1)
def _clip(backbone: str, loading: tuple[tuple[str, str], ...]) -> CLIP:
    said: dict[str, Any] = dict(loading)
    return load_clip(backbone, **said)


@lru_cache(maxsize=1)
def _dataset(source: str) -> Dataset:
    return load_data(**json.loads(source))


@lru_cache(maxsize=32)
def _target(source: str) -> Dataset:
    return load_data(**json.loads(source))
