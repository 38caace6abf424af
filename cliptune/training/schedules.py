"""The learning rate as a pure function of the position, so that resuming needs no scheduler state."""

from __future__ import annotations

import math

from cliptune.recipe import OptimiserConfig


def learning_rate(config: OptimiserConfig, epoch: int, epochs: float, step: int = 0, steps: int = 1) -> float:
    """The rate of one optimiser step.

    With E epochs (`config.horizon` instead, if it is given), W warm-up epochs and position e (whole epochs, or
    epoch + step / steps if `config.per` is "step"), the cosine is

        lr(e) = lr_min + ½ (lr − lr_min) (1 + cos(π (e − W) / E))        for e ≥ W.

    Its denominator is E, not E − W: the rate never reaches its end, as in the published recipes of the CoOp family
    (arXiv:2109.01134 and successors). With `recount=False` it is the curve over all epochs, scaled so that it
    starts at `lr`: lr_min + (lr − lr_min) (1 + cos(π e / E)) / (1 + cos(π W / E)).

    Args:
        config: peak, shape, warm-up.
        epoch: 0 … ⌈E⌉ − 1.
        epochs: E, the stage's epochs; a broken number where a budget ends the last one early.
        step: 0 … steps − 1 within the epoch; ignored if `config.per` is "epoch".
        steps: optimiser steps per whole epoch.
    Returns: the rate, > 0 before the end of the cosine.
    Raises: ValueError if the position lies outside the stage.
    """
    if not (0 <= epoch < epochs and 0 <= step < steps):
        raise ValueError(
            f"learning_rate: epoch {epoch}, step {step} lies outside a stage of {epochs} epochs with {steps} steps."
        )
    position = float(epoch) if config.per == "epoch" else epoch + step / steps
    warmup = config.warmup_epochs
    if position < warmup:
        if config.warmup == "constant" or position == 0:
            return config.warmup_lr
        return config.lr * position / warmup
    if config.schedule == "constant":
        return config.lr
    horizon = config.horizon or epochs
    if config.recount:
        share = 0.5 * (1 + math.cos(math.pi * (position - warmup) / horizon))
    else:
        share = (1 + math.cos(math.pi * position / horizon)) / (1 + math.cos(math.pi * warmup / horizon))
    return config.min_lr + (config.lr - config.min_lr) * share
