"""Adapt a frozen CLIP from a few images."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from cliptune.version import __version__

if TYPE_CHECKING:
    from cliptune import interop, methods
    from cliptune.clip.weights.load import load_clip
    from cliptune.data import load_data
    from cliptune.registry import build
    from cliptune.runs import load
    from cliptune.training import evaluate, fit

# Name → module that holds it; imported when first asked for, so that `import cliptune` stays fast.
_HOMES = {
    "build": "cliptune.registry",
    "evaluate": "cliptune.training",
    "fit": "cliptune.training",
    "load": "cliptune.runs",
    "load_clip": "cliptune.clip.weights.load",
    "load_data": "cliptune.data",
}
_ROOMS = ("interop", "methods", "sklearn")

__all__ = [
    "__version__",
    "build",
    "evaluate",
    "fit",
    "interop",
    "load",
    "load_clip",
    "load_data",
    "methods",
]


def __getattr__(name: str) -> Any:
    if name in _ROOMS:
        return importlib.import_module(f"cliptune.{name}")
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'cliptune' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
