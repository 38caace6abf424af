"""How the field measures: few-shot, base-to-new, transfer, less data; opening, tabulating and grids of runs."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cliptune.protocols.base_to_new import base2new
    from cliptune.protocols.bench import grid_rows, run_grid
    from cliptune.protocols.data_efficiency import data_efficient
    from cliptune.protocols.few_shot_learning import few_shot
    from cliptune.protocols.gridding import grid
    from cliptune.protocols.listing import MethodListing, list_method, list_methods
    from cliptune.protocols.published import beside_published
    from cliptune.protocols.runs import load, open_backbone, score
    from cliptune.protocols.tables import Row, collect, rows
    from cliptune.protocols.transfer import cross_dataset, domain_generalization

_HOMES = {
    "MethodListing": "listing",
    "Row": "tables",
    "base2new": "base_to_new",
    "beside_published": "published",
    "collect": "tables",
    "cross_dataset": "transfer",
    "data_efficient": "data_efficiency",
    "domain_generalization": "transfer",
    "few_shot": "few_shot_learning",
    "grid": "gridding",
    "grid_rows": "bench",
    "list_method": "listing",
    "list_methods": "listing",
    "load": "runs",
    "open_backbone": "runs",
    "rows": "tables",
    "run_grid": "bench",
    "score": "runs",
}

__all__ = [
    "MethodListing",
    "Row",
    "base2new",
    "beside_published",
    "collect",
    "cross_dataset",
    "data_efficient",
    "domain_generalization",
    "few_shot",
    "grid",
    "grid_rows",
    "list_method",
    "list_methods",
    "load",
    "open_backbone",
    "rows",
    "run_grid",
    "score",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
