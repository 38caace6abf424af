"""Finished runs as one page that opens anywhere: what was trained, numbers with intervals, explanations as pictures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cliptune.report.page import report

__all__ = ["report"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from cliptune.report import page

    return getattr(page, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
