"""Equal budgets: a recipe that takes so many optimiser steps, or sees so many images, instead of so many epochs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from cliptune.data.loader import steps_per_epoch
from cliptune.recipe import Recipe, Stage
from cliptune.training.feed import drop_last


def within_budget(recipe: Recipe, n: int, *, steps: int | None = None, images: int | None = None) -> Recipe:
    """The recipe with its stages stretched, or cut, to a budget; itself without one.

    What follows the epochs follows the new number of them: the cosine ends where the budget does, even within an epoch;
    a warm-up keeps its epochs; a horizon behind the stage's end stays as many epochs behind it. A budget of whole
    epochs gives, bit for bit, what as many epochs give.

    Several stages share the budget in proportion to their epochs. Stages that only observe take none of it.

    Args:
        recipe: built.
        n: training images.
        steps: optimiser steps of all stages together.
        images: images seen in them, each as often as it is; the steps are as many as do not exceed it. Those that a
            stage's sampler adds to its batches come on top.
    Raises: ValueError for both at once, a recipe whose stages take no steps, or less than one epoch for a stage.
    """
    if steps is None and images is None:
        return recipe
    if steps is not None and images is not None:
        raise ValueError(f"A budget is either steps or images, got steps={steps} and images={images}. Leave one out.")
    kind, budget = ("steps", steps) if steps is not None else ("images", images)
    assert budget is not None
    trained = [stage for stage in recipe.stages if stage.optimiser is not None]
    if not trained:
        raise ValueError(
            f"{kind}={budget} has no meaning for {recipe.method or 'this recipe'}: it takes no optimiser steps over "
            "batches; its head is solved for, or nothing is learned. Leave it out."
        )
    shares = _shares(budget, [stage.epochs for stage in trained])
    taken = [
        share if kind == "steps" else _steps_for(stage, n, share) for stage, share in zip(trained, shares, strict=True)
    ]
    for stage, count in zip(trained, taken, strict=True):
        if count < epoch_steps(stage, n):
            least = max(math.ceil(_one_epoch(s, n, kind) * sum(t.epochs for t in trained) / s.epochs) for s in trained)
            raise ValueError(
                f"{kind}={budget}: stage {stage.name!r} would get {count} optimiser steps, fewer than the "
                f"{epoch_steps(stage, n)} batches of one epoch over {n} images. Give {kind}={least} or more, or make "
                "the batches larger."
            )
    stretched = iter(_stretched(stage, n, count) for stage, count in zip(trained, taken, strict=True))
    return replace(recipe, stages=[s if s.optimiser is None else next(stretched) for s in recipe.stages])


def judged(recipe: Recipe, n: int) -> Recipe:
    """The recipe with what there is to say of its steps over n training images; an add-on's own stages do not count."""
    if recipe.fewest_steps is None:
        return recipe
    own = recipe.stages[: None if recipe.host_stages is None else recipe.host_stages.stages]
    steps = sum(all_steps(stage, epoch_steps(stage, n)) for stage in own if stage.optimiser is not None)
    return replace(recipe, narrow=(*recipe.narrow, *recipe.fewest_steps.judge(steps)), fewest_steps=None)


def epoch_steps(stage: Stage, n: int) -> int:
    """Optimiser steps of a whole epoch over n images."""
    return steps_per_epoch(n, stage.batch_size, drop_last=drop_last(stage))


def steps_in(stage: Stage, epoch: int, per_epoch: int) -> int:
    """Optimiser steps of one epoch, which a budget may end early."""
    return per_epoch if stage.steps is None else min(per_epoch, stage.steps - epoch * per_epoch)


def all_steps(stage: Stage, per_epoch: int) -> int:
    """Optimiser steps of the stage."""
    return stage.epochs * per_epoch if stage.steps is None else stage.steps


def length(stage: Stage, per_epoch: int) -> float:
    """Epochs of the stage, the last one as far as it goes."""
    return stage.epochs if stage.steps is None else stage.steps / per_epoch


def _stretched(stage: Stage, n: int, steps: int) -> Stage:
    assert stage.optimiser is not None
    epochs = steps / epoch_steps(stage, n)
    horizon = stage.optimiser.horizon
    optimiser = stage.optimiser
    if horizon is not None:
        optimiser = replace(optimiser, horizon=horizon + epochs - stage.epochs)
    return replace(stage, epochs=math.ceil(epochs), steps=steps, optimiser=optimiser)


def _steps_for(stage: Stage, n: int, images: int) -> int:
    """The most steps that do not see more images than these."""
    whole, rest = divmod(images, _one_epoch(stage, n, "images"))
    return whole * epoch_steps(stage, n) + rest // stage.batch_size


def _one_epoch(stage: Stage, n: int, kind: str) -> int:
    """Steps of a whole epoch, or images that they see."""
    steps = epoch_steps(stage, n)
    return steps if kind == "steps" else min(n, steps * stage.batch_size)


def _shares(whole: int, weights: Sequence[int]) -> list[int]:
    """Whole numbers in proportion to the weights that add up; what is left over goes to the largest remainders."""
    shares = [whole * weight // sum(weights) for weight in weights]
    by_remainder = sorted(range(len(weights)), key=lambda i: -(whole * weights[i] % sum(weights)))
    for i in by_remainder[: whole - sum(shares)]:
        shares[i] += 1
    return shares
