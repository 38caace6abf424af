"""What the recipes of visual reprogramming share: stages, causes, and an honest word about missing descriptions."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

from cliptune.objectives import WeightedLoss, cross_entropy
from cliptune.recipe import OptimiserConfig, Stage
from cliptune.texts import ClassSet
from cliptune.texts.descriptions import DESCRIBING, DISTINGUISHING


def stage(
    epochs: int,
    batch_size: int,
    lr: float,
    *,
    horizon: int | None = None,
    factors: Mapping[str, float] | None = None,
) -> Stage:
    """Cross-entropy by SGD without weight decay, cosine per step without warm-up, every image in every epoch."""
    optimiser = OptimiserConfig(
        lr=lr,
        weight_decay=0.0,
        per="step",
        warmup_epochs=0,
        horizon=horizon,
        factors=dict(factors or {}),
    )
    return Stage(WeightedLoss(cross_entropy), epochs, batch_size, optimiser, resize_first=True, keep_last=True)


def stages_with_prm(epochs: int, batch_size: int, lr: float) -> list[Stage]:
    """One epoch that only counts votes, then training; the cosine runs over all epochs, so it never reaches 0."""
    if epochs < 2:
        raise ValueError(
            f"DVP: the first epoch only counts votes, so at least 2 epochs are needed to train, got {epochs}."
        )
    first = Stage(None, 1, batch_size, None, name="observe", resize_first=True)
    return [first, stage(epochs - 1, batch_size, lr, horizon=epochs)]


def causes_of(method: str, classes: ClassSet, wanted: tuple[str, ...], most: int) -> tuple[str, ...]:
    """The sets of descriptions that speak of one cause each.

    Args:
        wanted: by name; empty for all there are, in order, up to `most`.
        most: how many stand-ins to make where the classes have no descriptions at all.
    Raises: ValueError if there are descriptions, but not by cause.
    """
    if wanted:
        return wanted
    if not classes.descriptions:
        return tuple(f"templates {i + 1}" for i in range(most))
    causes = tuple(name for name in classes.descriptions if name not in (DESCRIBING, DISTINGUISHING))
    if not causes:
        raise ValueError(
            f"{method}: it needs descriptions by cause, but there are only {', '.join(classes.descriptions)}. "
            "Write causes with `cliptune describe`, or use dvp_cls, which finds groups by itself."
        )
    return causes[:most]


def flags(method: str, classes: ClassSet) -> dict[str, Any]:
    """For `result.json`: where the descriptions came from. Warns where templates have to stand in."""
    if classes.descriptions:
        return {"descriptions": "given"}
    warnings.warn(
        f"{method}: the classes have no descriptions, so hand-written templates stand in for them, which say nothing "
        "but the name. Write some with `cliptune describe`, and give them as `descriptions`.",
        stacklevel=3,
    )
    return {"descriptions": "templates"}
