"""A grid of runs: protocol × data × shots × backbones × methods × seeds, each in a folder of its own.

Every cell may be asked for again at any time: a finished run is recognised by its folder's configuration, a broken one
goes on where it stopped. A cell that fails is reported and does not stop the others.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from itertools import product
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from cliptune.clip.load import load_clip
from cliptune.clip.model import CLIP
from cliptune.data.catalog import load_data
from cliptune.data.items import Dataset
from cliptune.methods import names
from cliptune.protocols.base_to_new import base2new
from cliptune.protocols.data_efficiency import check_request, data_efficient
from cliptune.protocols.few_shot_learning import few_shot
from cliptune.protocols.sharing import Waiting, joined
from cliptune.protocols.tables import Row, collect, rows
from cliptune.protocols.transfer import cross_dataset, domain_generalization
from cliptune.training import read_result
from cliptune.training.progress import Progress

if TYPE_CHECKING:
    from cliptune.protocols.ray_engine import RayEngine

PROTOCOLS = ("base2new", "few_shot", "cross", "domains", "data_efficient")
# A transfer starts from the run that few-shot learning makes of its source.
_HOMES = {"cross": "few_shot", "domains": "few_shot"}
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
        asked: further arguments of the protocol; "targets" as arguments of `load_data`.
        continues: folder of the host's run whose end stands for the first stages; None trains them.
        after: folders of the runs that have to be there first.
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
    asked: Mapping[str, Any] = field(default_factory=dict)
    continues: Path | None = None
    after: tuple[Path, ...] = ()

    @property
    def title(self) -> str:
        picked = "all images" if self.shots is None else f"{self.shots} shot{'s' if self.shots != 1 else ''}"
        if "fraction" in self.asked:
            picked = f"{self.asked['fraction']:.0%} by {self.asked['selection']}"
        others = len(self.asked.get("targets", ()))
        to = f" to {others} target{'s' if others != 1 else ''}" if others else ""
        return f"{self.method} on {self.source['name']}{to}, {picked}, seed {self.seed}"


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
    published: Callable[[str, int | None, str, str], Mapping[str, Any]] | None = None,
    asked: Callable[[Mapping[str, Any]], Sequence[Mapping[str, Any]]] | None = None,
) -> list[Cell]:
    """The cells of a grid, data set by data set, so that each is opened once.

    Args:
        protocol: one of `PROTOCOLS`.
        out: folder of all runs; a cell's folder below it tells the cell apart from every other.
        sources: arguments of `load_data`, one mapping per data set.
        settings: (method, shots) → options of the method and arguments of `fit`; None for the defaults.
        published: (method, shots, data, backbone) → options that those of `settings` are laid over.
        asked: source → what else each of its cells asks of the protocol: `{"targets": …}` for "cross" and "domains",
            `{"fraction": …, "selection": …}` for "data_efficient".
    Raises: ValueError for an unknown protocol or an empty side of the grid.
    """
    if protocol not in PROTOCOLS:
        raise ValueError(f"bench: protocol must be one of {', '.join(PROTOCOLS)}, got {protocol!r}.")
    sides = {"methods": methods, "data": sources, "shots": shots, "seeds": seeds, "backbones": backbones}
    for side, chosen in sides.items():
        if not chosen:
            raise ValueError(f"bench: there are no {side}, so there is nothing to run. Give at least one.")
    wanted = [(source, more) for source in sources for more in (asked(source) if asked is not None else ({},))]
    for _, more in wanted:
        if not more.get("targets", True):
            raise ValueError(f"bench: there are no targets for {protocol}. Give at least one data set: --targets NAME.")
        if "fraction" in more:
            check_request(more["fraction"], more["selection"], more.get("selector_epochs", 0))

    def settled(
        method: str, shots: int | None, data: str, backbone: str
    ) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
        options, training = settings(method, shots) if settings is not None else ({}, {})
        start = published(method, shots, data, backbone) if published is not None else {}
        return {**start, **options}, training

    cells = []
    for (source, more), k, backbone, method, seed in product(wanted, shots, backbones, methods, seeds):
        options, training = settled(method, k, source["name"], backbone)
        given = (dict(options), dict(training), dict(more))
        cells.append(Cell(protocol, method, dict(source), k, seed, backbone, Path(), *given))
    return joined(cells, partial(_folder, Path(out).expanduser().absolute()), settled)


def run_cell(cell: Cell, progress: str | Progress | None = "silent") -> Outcome:
    """Run a cell, go on with it, or find it finished. Whatever fails becomes the outcome's sentence."""
    started = time.monotonic()
    try:
        before = read_result(cell.folder)
        with warnings.catch_warnings():
            # A reader's remarks would be repeated for each of the data set's runs; `data list` and `train` show them.
            warnings.filterwarnings("ignore", message="Dataset ", category=UserWarning)
            result = _protocol(cell.protocol)(
                cell.method,
                _clip(cell.backbone),
                _dataset(json.dumps(dict(cell.source), sort_keys=True)),
                **_arguments(cell),
                seed=cell.seed,
                out=cell.folder,
                options=cell.options,
                source=cell.source,
                progress=progress,
                **cell.training,
                **({} if cell.continues is None else {"continues": cell.continues}),
            )
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
def _clip(backbone: str) -> CLIP:
    return load_clip(backbone)


@lru_cache(maxsize=1)
def _dataset(source: str) -> Dataset:
    return load_data(**json.loads(source))


@lru_cache(maxsize=32)
def _target(source: str) -> Dataset:
    return load_data(**json.loads(source))


def _folder(out: Path, cell: Cell) -> Path:
    """Where a cell's run belongs: it tells the cell apart from every other."""
    # Runs below `out` that it stands on are named from there, so that all may move together.
    options = {
        name: os.path.relpath(value, out) if isinstance(value, str) and Path(value).is_relative_to(out) else value
        for name, value in cell.options.items()
    }
    place = out / _HOMES.get(cell.protocol, cell.protocol) / _label(cell.source) / _share(cell.shots, cell.asked)
    method = _with_digest(_in_order(cell.method), options, cell.training)
    return place / _file_name(cell.backbone) / method / f"seed{cell.seed}"


def _share(shots: int | None, asked: Mapping[str, Any]) -> str:
    """A folder's name for the part of the training images that is used."""
    if "fraction" in asked:
        further = {key: value for key, value in asked.items() if key not in ("fraction", "selection")}
        share = f"{asked['fraction']:g}-{asked['selection']}"
        return f"{share}-{_digest(further)}" if further else share
    return "all" if shots is None else f"{shots}shots"


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
