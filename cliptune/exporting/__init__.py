"""Runs as classifiers for other programs: one graph from pixels to probabilities, checked against the adapter."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cliptune.exporting.graph import Graph
    from cliptune.exporting.making import Exported, export
    from cliptune.exporting.opening import open_exported
    from cliptune.exporting.trying import Verdict, parity

_HOMES = {
    "Exported": "making",
    "Graph": "graph",
    "Verdict": "trying",
    "export": "making",
    "open_exported": "opening",
    "parity": "trying",
}
__all__ = ["Exported", "Graph", "Verdict", "export", "open_exported", "parity"]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"cliptune.exporting.{home}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
