"""Runs and exports behind HTTP: pictures in, probabilities out, batched across requests."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cliptune.serving.app import Limits, application
    from cliptune.serving.batching import Batcher, Busy
    from cliptune.serving.served import Served, ServedExport, ServedRun, open_served

_HOMES = {
    "Batcher": "batching",
    "Busy": "batching",
    "Limits": "app",
    "Served": "served",
    "ServedExport": "served",
    "ServedRun": "served",
    "application": "app",
    "open_served": "served",
}
__all__ = ["Batcher", "Busy", "Limits", "Served", "ServedExport", "ServedRun", "application", "open_served"]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"cliptune.serving.{home}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
