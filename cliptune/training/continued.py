"""A run that begins where another one ended: a host's finished run in place of the same stages trained once more."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from cliptune.recipe import HostStages, Recipe
from cliptune.runs.checkpoints import read_learnables
from cliptune.runs.file_names import PROMPTS, WEIGHTS
from cliptune.runs.folder import differences, read_config, read_lines, read_metrics, read_result
from cliptune.runs.manifest import check_whole
from cliptune.training.state import Position


class HostRunMismatch(ValueError):
    """The run to go on from is not finished, or is not what the recipe begins with."""


@dataclass(frozen=True)
class End:
    """What a finished run hands over.

    Args:
        learnables: under the names that they have in the run that goes on.
        position: behind the stages that are done.
        metrics: lines of the stages that are done.
        prompts: those of logged prompts; empty if the run logged none.
    """

    learnables: dict[str, Tensor]
    position: Position
    metrics: list[dict[str, Any]]
    prompts: list[dict[str, Any]]


def end_of(folder: str | Path, recipe: Recipe, config: Mapping[str, Any], here: Path | None) -> End:
    """The end of the run that is, stage by stage, the beginning of a recipe.

    Every step's randomness depends on seed, stage, epoch and step alone, so the learnables are bit for bit those that
    the recipe's own first stages would give on the same machine.

    Args:
        folder: of a finished run of the recipe's host.
        recipe: built, not yet trained.
        config: the resolved configuration of the run that goes on.
        here: its folder.
    Raises: ValueError if the recipe begins with no other method's training; HostRunMismatch if that run is not
        finished, or differs from the beginning in anything that changes numbers.
    """
    host_stages = recipe.host_stages
    if host_stages is None:
        raise ValueError(
            f"continues: {recipe.method or 'this recipe'} does not begin with another method's training, so there is "
            "no run to go on from. Only a host with an add-on such as dpc does."
        )
    folder = Path(folder).expanduser()
    try:
        check_whole(folder)
        result = read_result(folder)
    except ValueError as error:
        raise HostRunMismatch(f"continues: {error}") from error
    if result is None:
        raise HostRunMismatch(
            f"continues: the run of {host_stages.method} in {folder} is not finished, so {recipe.method} cannot go on "
            "from its end. Finish it first, or let the first stage be trained here."
        )
    there = read_config(folder)
    expected = _host_config(config, host_stages, there)
    if there != expected:
        raise HostRunMismatch(
            f"continues: the run in {folder} is not the beginning of this one; it differs in "
            f"{differences(there, expected)}. Give a run of {host_stages.method} with the same options, data and seed."
        )
    learned = read_learnables(folder)
    own = recipe.adapter.learnables()
    added = {
        name: value
        for name, value in own.items()
        if name.startswith("prompt.") and not name.startswith(host_stages.prompt)
    }
    metrics = read_metrics(folder)
    spent = result.get("budget") or {}
    position = Position(
        stage=host_stages.stages,
        whole_seconds=result["seconds"],
        epochs_done=len(metrics),
        selected=result["selected"],
        notes=list(result.get("notes", ())),
        steps_taken=spent.get("steps", 0),
        images_seen=spent.get("images", 0),
        counted=bool(spent),
        peak_memory=dict(spent.get("peak_memory_bytes", {})),
        continues={
            "run": os.path.relpath(folder.resolve(), here.resolve()) if here is not None else str(folder),
            "method": host_stages.method,
            "stages": host_stages.stages,
            "seconds": result["seconds"],
            "adapter_sha256": hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest(),
        },
    )
    inside = {_inside(name, host_stages): value for name, value in learned.items()}
    return End({**added, **inside}, position, metrics, read_lines(folder / PROMPTS))


def _inside(name: str, host_stages: HostStages) -> str:
    return host_stages.prompt + name.removeprefix("prompt.") if name.startswith("prompt.") else name


def _host_config(config: Mapping[str, Any], host_stages: HostStages, there: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration that a run of the host must have, in the words of its own folder."""
    stages = []
    for stage in config["stages"][: host_stages.stages]:
        optimiser = stage["optimiser"]
        if optimiser is not None:
            factors = {name.replace(host_stages.prompt, "prompt.", 1): f for name, f in optimiser["factors"].items()}
            optimiser = {**optimiser, "factors": factors}
        stages.append({**stage, "optimiser": optimiser})
    options = {name: value for name, value in config["options"].items() if name in there["options"]}
    same = {**config, "method": host_stages.method, "options": options, "stages": stages}
    if "plugins" in config:
        hosts = host_stages.method.split("+")
        own = {name: sha256 for name, sha256 in config["plugins"].items() if name in hosts}
        same = {**same, "plugins": own} if own else {key: same[key] for key in same if key != "plugins"}
    return {"format": there["format"], **same}
