"""What entered the towers epoch by epoch: one line of JSON each, in a file of the run's folder."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cliptune.clip.deltas import Delta
from cliptune.clip.ports import Ports, TowerPorts
from cliptune.prompts import Prompt
from cliptune.runs.file_names import PROMPTS
from cliptune.runs.folder import read_lines

_TOWERS = ("text", "image")


@dataclass(frozen=True)
class LoggedPrompt:
    """What entered the towers at the end of an epoch, in evaluation.

    Args:
        stage: its name.
        epoch: 1, 2, …; 0 before the first step of the stage.
        trained: tokens, biases and deltas for trained classes.
        others: those for other classes; the same unless the prompt is mixed by class set.
        whole: does nothing else enter, so that the adapter's answers of that epoch can be had again?
    """

    stage: str
    epoch: int
    trained: Ports
    others: Ports
    whole: bool


class FixedPrompt(Prompt):
    """A logged prompt in the place of the one that learned: `adapter.with_prompt(FixedPrompt(logged))`."""

    def __init__(self, logged: LoggedPrompt) -> None:
        super().__init__()
        self.logged = logged

    def forward(self, seen: bool = True) -> Ports:
        return self.logged.trained if seen else self.logged.others


@torch.no_grad()
def line_of(prompt: Prompt, stage: str, epoch: int) -> dict[str, Any]:
    """The line for a prompt as it is; values are float32, bit for bit. It must be in evaluation mode."""
    trained, others = prompt(seen=True), prompt(seen=False)
    leaves, other_leaves = _leaves(trained), _leaves(others)
    changed = {name: value for name, value in other_leaves.items() if value != leaves.get(name)}
    beyond = (trained.pixels, trained.features, trained.text_features, trained.condition)
    # How much of the rows flows on from block to block is no tensor, and not kept.
    whole = all(port is None for port in beyond) and not (trained.image.flow or trained.text.flow)
    line = {"stage": stage, "epoch": epoch, "whole": whole, "leaves": leaves}
    return {**line, "others": changed} if changed else line


def read_prompts(folder: str | Path) -> list[LoggedPrompt]:
    """The prompts that a run logged, in order; empty if it logged none.

    Raises: ValueError with a sentence if the file is damaged.
    """
    path = Path(folder).expanduser() / PROMPTS
    try:
        return [_read(line) for line in read_lines(path)]
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{path} holds a line that is no logged prompt ({error}). Make the run anew in another folder, or remove "
            "the file if the prompts of earlier epochs are not needed."
        ) from error


def _leaves(ports: Ports) -> dict[str, Any]:
    found = {}
    for tower in _TOWERS:
        for (kind, key), value in getattr(ports, tower).leaves():
            parts = key if isinstance(key, tuple) else (key,)
            found[" ".join([tower, kind, *map(str, parts)])] = _encoded(value)
    return found


def _encoded(value: Tensor) -> dict[str, Any]:
    values = value.detach().cpu().float().contiguous().numpy().astype("<f4")
    return {"shape": list(values.shape), "float32": base64.b64encode(values.tobytes()).decode()}


def _decoded(noted: Mapping[str, Any]) -> Tensor:
    shape, content = [int(n) for n in noted["shape"]], base64.b64decode(noted["float32"], validate=True)
    if min(shape, default=1) < 0 or len(content) != 4 * math.prod(shape):
        raise ValueError(f"{len(content)} bytes are no float32 values of shape {shape}")
    return torch.from_numpy(np.frombuffer(content, dtype="<f4").astype(np.float32)).reshape(shape)


def _read(line: Mapping[str, Any]) -> LoggedPrompt:
    trained: dict[str, Any] = {**line["leaves"]}
    others: dict[str, Any] = {**trained, **line.get("others", {})}
    return LoggedPrompt(str(line["stage"]), int(line["epoch"]), _ports(trained), _ports(others), bool(line["whole"]))


def _ports(leaves: Mapping[str, Any]) -> Ports:
    strangers = {name.split(" ")[0] for name in leaves} - set(_TOWERS)
    if strangers:
        raise ValueError(f"there is no tower {strangers.pop()!r}")
    return Ports(image=_tower(leaves, "image"), text=_tower(leaves, "text"))


def _tower(leaves: Mapping[str, Any], tower: str) -> TowerPorts:
    tokens: dict[int, Tensor] = {}
    bias: dict[tuple[int, str, str], Tensor] = {}
    factors: dict[tuple[int, str], dict[str, Tensor]] = {}
    norm: dict[tuple[int, str, str], Tensor] = {}
    projection: dict[str, Tensor] = {}
    inserted: dict[int, Tensor] = {}
    own = {name.split(" ", 1)[1]: noted for name, noted in leaves.items() if name.split(" ")[0] == tower}
    for name, noted in own.items():
        kind, layer, *rest = name.split(" ")
        value = _decoded(noted)
        if kind == "tokens":
            tokens[int(layer)] = value
        elif kind == "inserted":
            inserted[int(layer)] = value
        elif kind == "projection":
            projection[layer] = value
        elif kind == "norm":
            site, part = rest
            norm[int(layer), site, part] = value
        elif kind == "bias":
            site, group = rest
            bias[int(layer), site, group] = value
        else:
            of, factor = rest
            factors.setdefault((int(layer), of), {})[factor] = value
    delta = {key: Delta(f["down"], f["up"]) for key, f in factors.items()}
    return TowerPorts(tokens, bias, delta, norm, projection, inserted)
