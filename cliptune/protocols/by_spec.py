"""A run by its specification: backbone and data are opened, and its protocol makes it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from cliptune.clip.model import CLIP
from cliptune.clip.weights.load import load_clip
from cliptune.data.items import Dataset
from cliptune.data.spec import DataSpec
from cliptune.protocols.base_to_new import base2new
from cliptune.protocols.data_efficiency import data_efficient
from cliptune.protocols.few_shot_learning import few_shot
from cliptune.protocols.transfer import cross_dataset, domain_generalization
from cliptune.runs.spec import RunSpec


def run(
    spec: RunSpec,
    out: str | Path | None = None,
    *,
    clip: CLIP | None = None,
    dataset: Dataset | None = None,
    **how: Any,
) -> dict[str, Any]:
    """Make a run, go on with it, or find it finished.

    Args:
        spec: what it is.
        out: its folder; None writes nothing.
        clip: the backbone; None opens the one that `spec` names.
        dataset: whole, before any sampling or cut; None opens the one that `spec` names.
        how: arguments of `fit` that change no numbers, such as `progress`, `overwrite` and `continues`.
    Returns: its result. What was opened last stays open for the next run.
    Raises: what the protocol raises.
    """
    return _protocol(spec.protocol)(
        spec.method,
        _clip(spec.backbone, tuple(sorted(spec.loading.items()))) if clip is None else clip,
        _dataset(spec.data.whole) if dataset is None else dataset,
        **_arguments(spec),
        seed=spec.seed,
        out=out,
        options=spec.options,
        source=spec.data.arguments,
        **{**spec.training, **how},
    )


def _protocol(name: str) -> Callable[..., dict[str, Any]]:
    known: Mapping[str, Callable[..., dict[str, Any]]] = {
        "base2new": base2new,
        "few_shot": few_shot,
        "cross": cross_dataset,
        "domains": domain_generalization,
        "data_efficient": data_efficient,
    }
    return known[name]


def _arguments(spec: RunSpec) -> dict[str, Any]:
    """What the run's protocol takes besides what all take."""
    more = dict(spec.asked)
    if spec.targets:
        more["targets"] = [_target(target) for target in spec.targets]
    if spec.protocol == "data_efficient":
        return more
    return {"shots": spec.shots, **more, **({"classes": spec.data.classes} if spec.protocol == "few_shot" else {})}


@lru_cache(maxsize=1)
def _clip(backbone: str, loading: tuple[tuple[str, Any], ...]) -> CLIP:
    return load_clip(backbone, **dict(loading))


@lru_cache(maxsize=1)
def _dataset(data: DataSpec) -> Dataset:
    return data.open()


@lru_cache(maxsize=32)
def _target(data: DataSpec) -> Dataset:
    return data.open()
