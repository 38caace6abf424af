"""Checkpoints of the field's released code, both ways."""

from __future__ import annotations

from typing import Any


def __getattr__(name: str) -> Any:
    # Methods import the naming helpers of this package, so the functions that import methods come late.
    if name in ("from_published", "to_published", "read_published"):
        from cliptune.interop import published

        return getattr(published, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = ["from_published", "read_published", "to_published"]
