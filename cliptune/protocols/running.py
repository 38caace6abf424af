"""Running one cell of a grid in its folder: made, taken up again, or found finished."""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from cliptune.clip.load import load_clip
from cliptune.clip.model import CLIP
from cliptune.data.catalog import load_data
from cliptune.data.items import Dataset
from cliptune.protocols.base_to_new import base2new
from cliptune.protocols.cells import Cell
from cliptune.protocols.data_efficiency import data_efficient
from cliptune.protocols.few_shot_learning import few_shot
from cliptune.protocols.transfer import cross_dataset, domain_generalization
from cliptune.training import read_result
from cliptune.training.continued import NotItsBeginning
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
