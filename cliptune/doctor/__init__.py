"""What is wrong with one's pictures, found before anything is trained on them."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cliptune.doctor.examination import examine, quick
    from cliptune.doctor.findings import Diagnosis, Finding

_HOMES = {"examine": "examination", "quick": "examination", "Diagnosis": "findings", "Finding": "findings"}

__all__ = ["Diagnosis", "Finding", "examine", "quick"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
