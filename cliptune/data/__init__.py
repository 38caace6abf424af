"""Data sets, few-shot sampling, splits, transforms, batches and metrics."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cliptune.data.cache import ImageCache
    from cliptune.data.catalog import from_images, list_data, load_data
    from cliptune.data.fewshot_files import few_shot_record, import_few_shot_pickle, read_few_shot
    from cliptune.data.images import ImageError, read_image
    from cliptune.data.items import Dataset, Item, Split
    from cliptune.data.loader import batches, steps_per_epoch
    from cliptune.data.own.folders import read_folder
    from cliptune.data.own.lists import read_list
    from cliptune.data.own.port import Predicted
    from cliptune.data.own.predictions import write_predictions
    from cliptune.data.own.split_files import make_split, read_split
    from cliptune.data.spec import DataSpec

_HOMES = {
    "from_images": "catalog",
    "list_data": "catalog",
    "load_data": "catalog",
    "few_shot_record": "fewshot_files",
    "import_few_shot_pickle": "fewshot_files",
    "read_few_shot": "fewshot_files",
    "read_folder": "own.folders",
    "ImageCache": "cache",
    "ImageError": "images",
    "read_image": "images",
    "Dataset": "items",
    "Item": "items",
    "Split": "items",
    "read_list": "own.lists",
    "batches": "loader",
    "steps_per_epoch": "loader",
    "Predicted": "own.port",
    "write_predictions": "own.predictions",
    "make_split": "own.split_files",
    "DataSpec": "spec",
    "read_split": "own.split_files",
}

__all__ = [
    "DataSpec",
    "Dataset",
    "ImageCache",
    "ImageError",
    "Item",
    "Predicted",
    "Split",
    "batches",
    "few_shot_record",
    "from_images",
    "import_few_shot_pickle",
    "list_data",
    "load_data",
    "make_split",
    "read_few_shot",
    "read_folder",
    "read_image",
    "read_list",
    "read_split",
    "steps_per_epoch",
    "write_predictions",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
