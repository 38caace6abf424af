"""Optional mirrors of `metrics.jsonl`: TensorBoard and Weights & Biases."""

from __future__ import annotations

import hashlib
import importlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol


class Tracker(Protocol):
    """Receives numbers as training goes; a resumed run goes on where its metrics end."""

    def log(self, values: Mapping[str, float], step: int) -> None:
        """`values`: one epoch's numbers by name; `step`: epochs done so far, over all stages."""

    def close(self) -> None: ...


class TensorBoard:
    """Writes event files to `folder`/tensorboard."""

    def __init__(self, folder: str | Path):
        module = _extra("torch.utils.tensorboard", "TensorBoard", "tensorboard")
        self._writer = module.SummaryWriter(str(Path(folder) / "tensorboard"))

    def log(self, values: Mapping[str, float], step: int) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()


class WandB:
    """Logs to Weights & Biases; project, entity and mode come from its own environment variables."""

    def __init__(self, folder: str | Path, config: Mapping[str, Any]):
        module = _extra("wandb", "Weights & Biases", "wandb")
        # The same run in the same folder has the same id, so that a resumed one goes on in its own curves.
        key = json.dumps([str(Path(folder).resolve()), dict(config)], sort_keys=True)
        identity = hashlib.sha256(key.encode()).hexdigest()[:16]
        self._run = module.init(
            dir=str(folder), name=Path(folder).name, config=dict(config), id=identity, resume="allow"
        )

    def log(self, values: Mapping[str, float], step: int) -> None:
        self._run.log(dict(values), step=step)

    def close(self) -> None:
        self._run.finish()


NAMES = ("tensorboard", "wandb")


def open_trackers(
    wanted: Iterable[str | Tracker], folder: str | Path | None, config: Mapping[str, Any]
) -> list[Tracker]:
    """Trackers by name ("tensorboard", "wandb") or ready-made ones.

    Raises: ValueError for an unknown name, or a name without a run folder; ImportError with the pip line if the
    tracker's package is missing.
    """
    opened: list[Tracker] = []
    for tracker in [wanted] if isinstance(wanted, str) else wanted:
        if not isinstance(tracker, str):
            opened.append(tracker)
        elif tracker not in NAMES:
            raise ValueError(f"Unknown tracker {tracker!r}. Known are {', '.join(NAMES)}.")
        elif folder is None:
            raise ValueError(f"The tracker {tracker!r} writes to the run folder, but none was given. Pass out=….")
        else:
            opened.append(TensorBoard(folder) if tracker == "tensorboard" else WandB(folder, config))
    return opened


def _extra(module: str, title: str, extra: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(
            f"{title} was asked for as a tracker but is not installed. Install it with "
            f"`pip install 'cliptune[{extra}]'`, or leave the tracker out."
        ) from error
