"""Other finished runs that differ from one in named things alone: its seeds, its shots, its options."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cliptune.explain.opened import OpenedRun
from cliptune.results.tables import Finished, collect


def family(run: OpenedRun, *free: str) -> list[Finished]:
    """The run, and those among which it was opened that differ from it in nothing but `free`, by path.

    Args:
        run: with `among`, the folder that is searched; that around the run's own if there is none.
        free: "seed", "shots", or names of options of the method.
    Runs whose files are damaged are left out. Empty if the run itself was never scored.
    """
    place = Path(run.among).expanduser() if run.among is not None else run.folder.resolve().parent
    own = [one for one in collect_here(run.folder) if not one.trained_on]
    if not own:
        return []
    there = [one for one in collect_here(place) if not one.trained_on and _kept(one, free) == _kept(own[0], free)]
    known = {one.folder.resolve() for one in there}
    return there if own[0].folder.resolve() in known else [*own, *there]


def collect_here(place: Path) -> list[Finished]:
    """Scored runs in and below a folder that are whole; none if there are none.

    Raises: FileNotFoundError with a sentence if there is no such folder.
    """
    if not place.is_dir():
        raise FileNotFoundError(f"explain: there is no folder {place} to look for other runs in. Check --among.")
    try:
        return collect(place, skipped=[])
    except (FileNotFoundError, ValueError):
        return []


def _kept(run: Finished, free: tuple[str, ...]) -> Mapping[str, Any]:
    return {
        "method": run.method,
        "data": run.data,
        "backbone": run.backbone,
        "trained": run.trained,
        "share": run.share,
        "settings": dict(run.settings),
        "seed": None if "seed" in free else run.seed,
        "shots": None if "shots" in free else run.shots,
        "options": {name: value for name, value in run.options.items() if name not in free},
    }
