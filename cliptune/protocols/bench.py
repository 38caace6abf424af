"""A grid of runs: protocol × data × shots × backbones × methods × seeds, each in a folder of its own.

Every cell may be asked for again at any time: a finished run is recognised by its folder's configuration, a broken one
goes on where it stopped. A cell that fails is reported and does not stop the others.
"""

from __future__ import annotations

import hashlib
import json
import time
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import product
from pathlib import Path
from statistics import fmean
from typing import Any

from cliptune.clip.load import load_clip
from cliptune.clip.model import CLIP
from cliptune.data.catalog import load_data
from cliptune.data.items import Dataset
from cliptune.methods import names
from cliptune.protocols.base_to_new import base2new
from cliptune.protocols.few_shot_learning import few_shot
from cliptune.protocols.tables import Row, collect, rows
from cliptune.training import read_result
from cliptune.training.progress import Progress

PROTOCOLS = ("base2new", "few_shot")
# Arguments of `fit` that change numbers; the others may differ between two calls for the same run.
_DECISIVE = ("precision", "accumulate", "select", "views")


@dataclass(frozen=True)
class Cell:
    """One run of a grid.

    Args:
        protocol: one of `PROTOCOLS`.
        method: a host with add-ons.
        source: arguments of `load_data` that open the whole data set.
        shots: training images per class; None for all.
        seed: of sampling, start, order and augmentation.
        backbone: what `load_clip` takes.
        folder: of the run.
        options: of the method.
        training: further arguments of `fit`.
    """

    protocol: str
    method: str
    source: Mapping[str, Any]
    shots: int | None
    seed: int
    backbone: str
    folder: Path
    options: Mapping[str, Any] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)

    @property
    def title(self) -> str:
        picked = "all images" if self.shots is None else f"{self.shots} shot{'s' if self.shots != 1 else ''}"
        return f"{self.method} on {self.source['name']}, {picked}, seed {self.seed}"


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


def grid(
    protocol: str,
    out: str | Path,
    *,
    methods: Sequence[str],
    sources: Sequence[Mapping[str, Any]],
    shots: Sequence[int | None] = (16,),
    seeds: Sequence[int] = (1, 2, 3),
    backbones: Sequence[str] = ("mini",),
    settings: Callable[[str, int | None], tuple[Mapping[str, Any], Mapping[str, Any]]] | None = None,
) -> list[Cell]:
    """The cells of a grid, data set by data set, so that each is opened once.

    Args:
        protocol: one of `PROTOCOLS`.
        out: folder of all runs; a cell's folder below it tells the cell apart from every other.
        sources: arguments of `load_data`, one mapping per data set.
        settings: (method, shots) → options of the method and arguments of `fit`; None for the defaults.
    Raises: ValueError for an unknown protocol or an empty side of the grid.
    """
    if protocol not in PROTOCOLS:
        raise ValueError(f"bench: protocol must be one of {', '.join(PROTOCOLS)}, got {protocol!r}.")
    sides = {"methods": methods, "data": sources, "shots": shots, "seeds": seeds, "backbones": backbones}
    for side, chosen in sides.items():
        if not chosen:
            raise ValueError(f"bench: there are no {side}, so there is nothing to run. Give at least one.")
    cells: dict[Path, Cell] = {}  # what is asked for twice runs once
    for source, k, backbone, method, seed in product(sources, shots, backbones, methods, seeds):
        options, training = settings(method, k) if settings is not None else ({}, {})
        place = Path(out).expanduser() / protocol / _label(source) / ("all" if k is None else f"{k}shots")
        place = place / _file_name(backbone) / _with_digest(_in_order(method), options, training) / f"seed{seed}"
        cells[place] = Cell(protocol, method, dict(source), k, seed, backbone, place, dict(options), dict(training))
    return list(cells.values())


def run_cell(cell: Cell, progress: str | Progress | None = "silent") -> Outcome:
    """Run a cell, go on with it, or find it finished. Whatever fails becomes the outcome's sentence."""
    started = time.monotonic()
    try:
        before = read_result(cell.folder)
        with warnings.catch_warnings():
            # A reader's remarks would be repeated for each of the data set's runs; `data list` and `train` show them.
            warnings.filterwarnings("ignore", message="Dataset ", category=UserWarning)
            protocol = {"base2new": base2new, "few_shot": few_shot}[cell.protocol]
            result = protocol(
                cell.method,
                _clip(cell.backbone),
                _dataset(json.dumps(dict(cell.source), sort_keys=True)),
                shots=cell.shots,
                seed=cell.seed,
                out=cell.folder,
                options=cell.options,
                source=cell.source,
                progress=progress,
                **cell.training,
            )
    except Exception as error:
        # One cell's defect must not cost the others their night; it is told at the end, with its kind if unforeseen.
        foreseen = isinstance(error, (ValueError, OSError)) and str(error)
        return Outcome(cell, error=str(error) if foreseen else f"{type(error).__name__}: {error}")
    if not result["evaluations"]:
        return Outcome(cell, error=f"{cell.source['name']} has no test or validation images, so nothing was scored.")
    if before is not None:
        return Outcome(cell, float(result["seconds"]), before=bool(before.get("evaluations")))
    return Outcome(cell, time.monotonic() - started)


def run_grid(
    cells: Sequence[Cell],
    *,
    workers: int = 0,
    watch: Watch | None = None,
    inside: Callable[[Cell], Progress] | None = None,
) -> list[Outcome]:
    """Run all cells; those that fail do not stop the others.

    Args:
        workers: processes that run cells, with one thread each; 0 runs them here, one after another.
        watch: told of every outcome as it comes.
        inside: what shows the progress of the cell that runs here; not asked with workers.
    Returns: outcomes in the order of `cells`.
    Raises: ValueError for a negative number of workers.
    """
    if workers < 0:
        raise ValueError(f"bench: workers must be at least 0, got {workers}.")
    done: dict[Path, Outcome] = {}
    for outcome in _outcomes(cells, workers, inside):
        done[outcome.cell.folder] = outcome
        if watch is not None:
            waiting = [cell for cell in cells if cell.folder not in done]
            watch(outcome, len(done), len(cells), _seconds_left(list(done.values()), waiting, max(workers, 1)))
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
    for cell in cells:
        yield run_cell(cell, "silent" if inside is None else inside(cell))


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


@lru_cache(maxsize=1)
def _clip(backbone: str) -> CLIP:
    return load_clip(backbone)


@lru_cache(maxsize=1)
def _dataset(source: str) -> Dataset:
    return load_data(**json.loads(source))


def _label(source: Mapping[str, Any]) -> str:
    """A folder's name for a data set; paths that end alike get different ones."""
    name = str(source["name"])
    further = {key: value for key, value in source.items() if key not in ("name", "root")}
    if Path(name).is_absolute() or further:
        return f"{_file_name(Path(name).name)}-{_digest({'name': name, **further})}"
    return _file_name(name)


def _in_order(method: str) -> str:
    """One spelling for all orders of the same add-ons."""
    hosts = names()
    return "+".join(sorted((part.strip() for part in method.split("+")), key=lambda part: (part not in hosts, part)))


def _with_digest(method: str, options: Mapping[str, Any], training: Mapping[str, Any]) -> str:
    """The method, and a short hash of what was set, so that other settings take another folder."""
    decisive = {**options, **{key: training[key] for key in _DECISIVE if training.get(key) is not None}}
    return f"{method}-{_digest(decisive)}" if decisive else method


def _file_name(text: str) -> str:
    if Path(text).is_absolute():
        return f"{_file_name(Path(text).name)}-{_digest(text)}"
    return "".join(sign if sign.isalnum() or sign in "._+-" else "-" for sign in text)


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:8]
