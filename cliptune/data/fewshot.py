"""Few-shot sampling that replays the field's picks for the same seed.

Source: the sampler of CoOp (arXiv:2109.01134) and of the toolbox it stands on, which all prompt-tuning papers
    share.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

MAX_VAL_SHOTS = 4


def pick(labels: Sequence[int], shots: int, rng: random.Random, *, repeat: bool = False) -> list[int]:
    """Positions of `shots` images per class, drawn from the list of labels.

    Classes come in the order in which their labels first appear, which is not label order in every data set;
    that order decides what the generator yields for whom, so it is part of the rule.

    Args:
        labels: label of each image, in the order of the split file.
        shots: images per class; below 1 means all images, in their order, without a draw.
        rng: CPython generator; it moves on.
        repeat: for a class with fewer than `shots` images, draw `shots` with replacement (Tip-Adapter,
            CLIP-LoRA) instead of taking them all without a draw (CoOp).
    """
    if shots < 1:
        return list(range(len(labels)))
    chosen: list[int] = []
    for group in groups(labels).values():
        if len(group) >= shots:
            chosen += rng.sample(group, shots)
        elif repeat:
            chosen += rng.choices(group, k=shots)
        else:
            chosen += group
    return chosen


def groups(labels: Sequence[int]) -> dict[int, list[int]]:
    """Label → positions, labels in order of first appearance."""
    positions: dict[int, list[int]] = {}
    for position, label in enumerate(labels):
        positions.setdefault(label, []).append(position)
    return positions


def few_shot_indices(
    train_labels: Sequence[int], val_labels: Sequence[int], shots: int, seed: int, *, repeat: bool = False
) -> tuple[list[int], list[int]]:
    """Positions of the chosen training images and of at most 4 validation images per class.

    One generator `random.Random(seed)` serves the training list first and then continues with the validation
    list.
    All classes take part: a base/new cut comes afterwards, so that it never changes a pick.
    """
    rng = random.Random(seed)
    train = pick(train_labels, shots, rng, repeat=repeat)
    val = pick(val_labels, min(shots, MAX_VAL_SHOTS), rng, repeat=repeat)
    return train, val
