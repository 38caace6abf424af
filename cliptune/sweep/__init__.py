"""Many runs: the cells of a grid, what may be shared between them, and what runs them side by side."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cliptune.sweep.bench import grid_rows, run_grid
    from cliptune.sweep.cells import Cell
    from cliptune.sweep.grid import Sweep
    from cliptune.sweep.running import Outcome
    from cliptune.sweep.tuning import Search

_HOMES = {
    "Cell": "cliptune.sweep.cells",
    "Outcome": "cliptune.sweep.running",
    "Search": "cliptune.sweep.tuning",
    "Sweep": "cliptune.sweep.grid",
    "grid_rows": "cliptune.sweep.bench",
    "run_grid": "cliptune.sweep.bench",
}
__all__ = [
    "Cell",
    "Outcome",
    "Search",
    "Sweep",
    "grid_rows",
    "run_grid",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(home), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
