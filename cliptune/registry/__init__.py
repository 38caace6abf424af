"""Finding methods and add-ons, building them, and what is known of each: recipes, options, what joins what."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cliptune.registry.building import MethodInfo, add_ons, build, count_learnables, describe, host_run, names
    from cliptune.registry.combinations import Cell, compatibility
    from cliptune.registry.listing import MethodListing, list_method, list_methods
    from cliptune.registry.recipes import Entry, published_entries, published_options, recipes_of

_HOMES = {
    "Cell": "cliptune.registry.combinations",
    "Entry": "cliptune.registry.recipes",
    "MethodInfo": "cliptune.registry.building",
    "MethodListing": "cliptune.registry.listing",
    "add_ons": "cliptune.registry.building",
    "build": "cliptune.registry.building",
    "compatibility": "cliptune.registry.combinations",
    "count_learnables": "cliptune.registry.building",
    "describe": "cliptune.registry.building",
    "host_run": "cliptune.registry.building",
    "list_method": "cliptune.registry.listing",
    "list_methods": "cliptune.registry.listing",
    "names": "cliptune.registry.building",
    "published_entries": "cliptune.registry.recipes",
    "published_options": "cliptune.registry.recipes",
    "recipes_of": "cliptune.registry.recipes",
}
__all__ = [
    "Cell",
    "Entry",
    "MethodInfo",
    "MethodListing",
    "add_ons",
    "build",
    "compatibility",
    "count_learnables",
    "describe",
    "host_run",
    "list_method",
    "list_methods",
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
