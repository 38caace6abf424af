"""Tinyworld: small pictures drawn by the library, of which everything is known."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cliptune.data.tinyworld.domains import DOMAINS
    from cliptune.data.tinyworld.suites import Suite, images_of, list_suites, load_suite, masks_of

_HOMES = {
    "DOMAINS": "domains",
    "Suite": "suites",
    "images_of": "suites",
    "list_suites": "suites",
    "load_suite": "suites",
    "masks_of": "suites",
}

__all__ = ["DOMAINS", "Suite", "images_of", "list_suites", "load_suite", "masks_of"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
