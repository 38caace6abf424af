"""One file per published method, each with `Config` and `build`; found by walking this folder."""

from cliptune.methods.compatibility import Cell, compatibility
from cliptune.methods.registry import MethodInfo, add_ons, build, count_learnables, describe, names, published_options

__all__ = [
    "Cell",
    "MethodInfo",
    "add_ons",
    "build",
    "compatibility",
    "count_learnables",
    "describe",
    "names",
    "published_options",
]
