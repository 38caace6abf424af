"""Everything a run needs to go on where it stood, as tensors and plain values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from cliptune.recipe import Stage
from cliptune.training.optim import load_optimiser_tensors, optimiser_tensors

if TYPE_CHECKING:
    from cliptune.adapter import Adapter

_TENSOR = "tensor of this state"


@dataclass
class Best:
    """The best epoch of the current stage so far: its score in %, its number (from 1), its learnables."""

    score: float
    epoch: int
    learnables: dict[str, Tensor]


@dataclass
class Position:
    """What comes next, and what was counted on the way.

    Args:
        stage, epoch, step: the next ones, counted from 0.
        totals: sums over the epoch's steps so far.
        seconds: spent on this epoch so far; whole_seconds: on the run.
        epochs_done: over all stages.
        metrics_size: bytes of `metrics.jsonl` that belong to what is done.
        prompts_size: the same of `prompts.jsonl`; 0 if prompts are not logged.
        selected: stage, epoch (from 1) and accuracy in % of each stage that ended with a selected epoch.
        chosen: "images", the validation images that the head chose on, and "chose", what (see `Head`); None if it
            does not choose on any.
        steps_taken, images_seen: by optimiser steps, on the run; with images that were shown to heads.
        counted: whether these are known of the whole run; earlier versions did not count.
        peak_memory: bytes by kind, see `PeakMemory`.
        continues: the run whose end stands for the first stages: where it lies, its method, how many stages and
            seconds it took, the SHA-256 of what it learned. None if all stages are this run's own.
        notes: sentences on what was replaced, left out or decided so far.
        skipped: optimiser steps of this stage that fp16's gradients overflowed in.
    """

    stage: int = 0
    epoch: int = 0
    step: int = 0
    totals: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    whole_seconds: float = 0.0
    epochs_done: int = 0
    metrics_size: int = 0
    prompts_size: int = 0
    selected: list[dict[str, Any]] = field(default_factory=list)
    chosen: dict[str, Any] | None = None
    steps_taken: int = 0
    images_seen: int = 0
    counted: bool = True
    peak_memory: dict[str, int] = field(default_factory=dict)
    continues: dict[str, Any] | None = None
    notes: list[str] = field(default_factory=list)
    skipped: int = 0

    def add(self, sums: Mapping[str, float]) -> None:
        """A step is done."""
        for name, value in sums.items():
            self.totals[name] = self.totals.get(name, 0.0) + value
        self.step += 1
        self.steps_taken += 1
        self.images_seen += round(sums["images"])

    def held(self, memory: Mapping[str, int]) -> None:
        """Memory, in bytes by kind."""
        for kind, size in memory.items():
            self.peak_memory[kind] = max(size, self.peak_memory.get(kind, 0))

    def next_epoch(self) -> None:
        self.epoch, self.step, self.totals, self.seconds = self.epoch + 1, 0, {}, 0.0

    def next_stage(self) -> None:
        self.next_epoch()
        self.stage, self.epoch = self.stage + 1, 0


def capture(
    adapter: Adapter,
    position: Position,
    stage: Stage | None = None,
    optimiser: torch.optim.Optimizer | None = None,
    scaler: torch.amp.GradScaler | None = None,
    best: Best | None = None,
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The state between two steps. Tensors are named by who owns them.

    Without an optimiser it is the state between two stages.
    """
    tensors = {f"learnables/{name}": tensor for name, tensor in adapter.learnables().items()}
    # Heads that count keep the epoch's counts in buffers that need not be part of the adapter's file.
    tensors |= {f"head/{name}": buffer for name, buffer in adapter.head.named_buffers()}
    values: dict[str, Any] = {"position": asdict(position)}
    if optimiser is not None and stage is not None:
        moments = optimiser_tensors(optimiser, adapter.trainable())
        tensors |= {f"optimiser/{name}": tensor for name, tensor in moments.items()}
        values["scaler"] = scaler.state_dict() if scaler is not None else {}
        values["helpers"] = {
            name: _split(helper.state_dict(), f"helpers/{name}", tensors) for name, helper in _helpers(stage)
        }
    if best is not None:
        tensors |= {f"best/{name}": tensor for name, tensor in best.learnables.items()}
        values["best"] = {"score": best.score, "epoch": best.epoch}
    return tensors, values


def restore_adapter(adapter: Adapter, tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> Position:
    """Load learnables and the head's counts; the position to go on from."""
    adapter.load_learnables(_under(tensors, "learnables/"))
    counts = _under(tensors, "head/")
    for name, buffer in adapter.head.named_buffers():
        if name in counts and counts[name].shape == buffer.shape:
            buffer.copy_(counts[name])
    return Position(**{"counted": False, **values["position"]})


def restore_stage(
    adapter: Adapter,
    tensors: Mapping[str, Tensor],
    values: Mapping[str, Any],
    stage: Stage,
    optimiser: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
) -> Best | None:
    """Load the optimiser's moments, the loss scale, the helpers of the stage; the best epoch so far."""
    load_optimiser_tensors(optimiser, adapter.trainable(), _under(tensors, "optimiser/"))
    if scaler.is_enabled() and values.get("scaler"):
        scaler.load_state_dict(values["scaler"])
    for name, helper in _helpers(stage):
        if name in values.get("helpers", {}):
            helper.load_state_dict(_join(values["helpers"][name], tensors))
    if "best" not in values:
        return None
    return Best(**values["best"], learnables=_under(tensors, "best/"))


def _helpers(stage: Stage) -> Iterator[tuple[str, Any]]:
    """What keeps state beside the adapter: the sampler and the hooks that can say and load it."""
    named = [("sampler", stage.sampler), *((f"hook {i}", hook) for i, hook in enumerate(stage.after_epoch))]
    return ((name, helper) for name, helper in named if hasattr(helper, "state_dict"))


def _under(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _split(value: Any, name: str, tensors: dict[str, Tensor]) -> Any:
    """Move the tensors of a nested value into `tensors`, leaving their names."""
    if isinstance(value, Tensor):
        tensors[name] = value
        return {_TENSOR: name}
    if isinstance(value, Mapping):
        return {str(key): _split(item, f"{name}/{key}", tensors) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_split(item, f"{name}/{i}", tensors) for i, item in enumerate(value)]
    return value


def _join(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    """The inverse of `_split`; tuples come back as lists."""
    if isinstance(value, dict):
        return tensors[value[_TENSOR]] if _TENSOR in value else {k: _join(v, tensors) for k, v in value.items()}
    return [_join(item, tensors) for item in value] if isinstance(value, list) else value
