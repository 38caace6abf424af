"""One file per published method, each with `Config` and `build`; found by walking this folder."""

from cliptune.methods.registry import MethodInfo, build, describe, names, published_options

__all__ = ["MethodInfo", "build", "describe", "names", "published_options"]
