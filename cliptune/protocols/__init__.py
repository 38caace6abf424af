"""What is measured, as the field does: few-shot, base-to-new, transfer, less data."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cliptune.protocols.base_to_new import base2new
    from cliptune.protocols.by_spec import run
    from cliptune.protocols.data_efficiency import data_efficient
    from cliptune.protocols.few_shot_learning import few_shot
    from cliptune.protocols.training import score
    from cliptune.protocols.transfer import cross_dataset, domain_generalization

_HOMES = {
    "base2new": "cliptune.protocols.base_to_new",
    "cross_dataset": "cliptune.protocols.transfer",
    "data_efficient": "cliptune.protocols.data_efficiency",
    "domain_generalization": "cliptune.protocols.transfer",
    "few_shot": "cliptune.protocols.few_shot_learning",
    "run": "cliptune.protocols.by_spec",
    "score": "cliptune.protocols.training",
}
# Where names were found up to version 0.1.
_MOVED = {
    "MethodListing": "cliptune.registry.listing",
    "Row": "cliptune.results.tables",
    "beside_published": "cliptune.results.published",
    "collect": "cliptune.results.tables",
    "grid_rows": "cliptune.sweep.bench",
    "list_method": "cliptune.registry.listing",
    "list_methods": "cliptune.registry.listing",
    "load": "cliptune.runs.loading",
    "open_backbone": "cliptune.runs.loading",
    "rows": "cliptune.results.tables",
    "run_grid": "cliptune.sweep.bench",
}

__all__ = [
    "base2new",
    "cross_dataset",
    "data_efficient",
    "domain_generalization",
    "few_shot",
    "run",
    "score",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name) or _MOVED.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(home), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
