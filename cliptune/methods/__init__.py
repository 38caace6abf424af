"""One file per published method, each with `Config` and `build`; found by walking this folder."""

from cliptune.methods.registry import MethodInfo, add_ons, build, count_learnables, describe, names, published_options

__all__ = ["MethodInfo", "add_ons", "build", "count_learnables", "describe", "names", "published_options"]
