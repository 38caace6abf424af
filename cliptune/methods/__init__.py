"""One file per published method, each with `Config` and `build`; found by walking this folder."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cliptune.registry.building import MethodInfo, add_ons, build, count_learnables, describe, host_run, names
    from cliptune.registry.combinations import Cell, compatibility
    from cliptune.registry.recipes import Entry, published_entries, published_options, recipes_of

_HOMES = {
    "Cell": "cliptune.registry.combinations",
    "Entry": "cliptune.registry.recipes",
    "MethodInfo": "cliptune.registry.building",
    "add_ons": "cliptune.registry.building",
    "build": "cliptune.registry.building",
    "compatibility": "cliptune.registry.combinations",
    "count_learnables": "cliptune.registry.building",
    "describe": "cliptune.registry.building",
    "host_run": "cliptune.registry.building",
    "names": "cliptune.registry.building",
    "published_entries": "cliptune.registry.recipes",
    "published_options": "cliptune.registry.recipes",
    "recipes_of": "cliptune.registry.recipes",
}
__all__ = [
    "Cell",
    "Entry",
    "MethodInfo",
    "add_ons",
    "build",
    "compatibility",
    "count_learnables",
    "describe",
    "host_run",
    "names",
    "published_entries",
    "published_options",
    "recipes_of",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(home), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
