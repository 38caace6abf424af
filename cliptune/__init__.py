"""Adapt a frozen CLIP from a few images."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from cliptune.version import __version__

if TYPE_CHECKING:
    from cliptune import interop, methods
    from cliptune.clip.weights.load import load_clip
    from cliptune.data import load_data
    from cliptune.exporting import export, open_exported
    from cliptune.registry import build
    from cliptune.runs import load
    from cliptune.sharing import from_pretrained, push_to_hub, save_pretrained
    from cliptune.training.evaluate import evaluate
    from cliptune.training.fit import fit

# Name → module that holds it; imported when first asked for, so that `import cliptune` stays fast.
_HOMES = {
    "build": "cliptune.registry",
    "evaluate": "cliptune.training",
    "export": "cliptune.exporting",
    "fit": "cliptune.training",
    "from_pretrained": "cliptune.sharing",
    "load": "cliptune.runs",
    "load_clip": "cliptune.clip.weights.load",
    "load_data": "cliptune.data",
    "open_exported": "cliptune.exporting",
    "push_to_hub": "cliptune.sharing",
    "save_pretrained": "cliptune.sharing",
}
_ROOMS = ("interop", "methods", "sklearn")

__all__ = [
    "__version__",
    "build",
    "evaluate",
    "export",
    "fit",
    "from_pretrained",
    "interop",
    "load",
    "load_clip",
    "load_data",
    "methods",
    "open_exported",
    "push_to_hub",
    "save_pretrained",
]


def __getattr__(name: str) -> Any:
    if name in _ROOMS:
        return importlib.import_module(f"cliptune.{name}")
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'cliptune' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
