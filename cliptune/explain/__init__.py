"""Explaining finished runs: every analysis as one kind of explanation, its numbers, its sentence, its pictures."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cliptune.explain.one_image import explain_image
    from cliptune.explain.opened import OpenedRun
    from cliptune.explain.port import Explanation
    from cliptune.explain.running import Explained, explain, kinds

_HOMES = {
    "Explained": "cliptune.explain.running",
    "Explanation": "cliptune.explain.port",
    "OpenedRun": "cliptune.explain.opened",
    "explain": "cliptune.explain.running",
    "explain_image": "cliptune.explain.one_image",
    "kinds": "cliptune.explain.running",
}
__all__ = ["Explained", "Explanation", "OpenedRun", "explain", "explain_image", "kinds"]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(home), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
