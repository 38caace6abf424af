"""One file per published method, each with `Config` and `build`; found by walking this folder."""

from cliptune.methods.compatibility import Cell, compatibility
from cliptune.methods.published_recipes import Entry, published_entries, published_options, recipes_of
from cliptune.methods.registry import MethodInfo, add_ons, build, count_learnables, describe, host_run, names

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
