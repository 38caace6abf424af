"""Run folders: what a run leaves on the disk, and opening it again."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cliptune.runs.checkpoints import load_adapter, read_adapter_config, read_learnables, save_adapter
    from cliptune.runs.folder import RunFolder, read_config, read_metrics, read_result
    from cliptune.runs.loading import load, open_backbone
    from cliptune.runs.predictions import Predictions, read_predictions
    from cliptune.runs.prompt_log import FixedPrompt, LoggedPrompt, read_prompts
    from cliptune.runs.spec import RunSpec

_HOMES = {
    "FixedPrompt": "cliptune.runs.prompt_log",
    "LoggedPrompt": "cliptune.runs.prompt_log",
    "Predictions": "cliptune.runs.predictions",
    "RunFolder": "cliptune.runs.folder",
    "load": "cliptune.runs.loading",
    "load_adapter": "cliptune.runs.checkpoints",
    "open_backbone": "cliptune.runs.loading",
    "read_adapter_config": "cliptune.runs.checkpoints",
    "read_config": "cliptune.runs.folder",
    "read_learnables": "cliptune.runs.checkpoints",
    "read_metrics": "cliptune.runs.folder",
    "read_predictions": "cliptune.runs.predictions",
    "read_prompts": "cliptune.runs.prompt_log",
    "read_result": "cliptune.runs.folder",
    "RunSpec": "cliptune.runs.spec",
    "save_adapter": "cliptune.runs.checkpoints",
}
__all__ = [
    "FixedPrompt",
    "LoggedPrompt",
    "Predictions",
    "RunFolder",
    "RunSpec",
    "load",
    "load_adapter",
    "open_backbone",
    "read_adapter_config",
    "read_config",
    "read_learnables",
    "read_metrics",
    "read_predictions",
    "read_prompts",
    "read_result",
    "save_adapter",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(home), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
