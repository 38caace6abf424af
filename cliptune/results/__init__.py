"""What came out: finished runs as the rows of tables, beside published numbers."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cliptune.results.against import Comparison, compare, compare_pairs, corrected
    from cliptune.results.published import beside_published
    from cliptune.results.tables import Finished, Row, collect, rows

_HOMES = {
    "Comparison": "cliptune.results.against",
    "Finished": "cliptune.results.tables",
    "Row": "cliptune.results.tables",
    "beside_published": "cliptune.results.published",
    "collect": "cliptune.results.tables",
    "compare": "cliptune.results.against",
    "compare_pairs": "cliptune.results.against",
    "corrected": "cliptune.results.against",
    "rows": "cliptune.results.tables",
}
__all__ = [
    "Comparison",
    "Finished",
    "Row",
    "beside_published",
    "collect",
    "compare",
    "compare_pairs",
    "corrected",
    "rows",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(home), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
