"""Parts of training images that are held out in turn, every class shared out among them."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

from cliptune.data.fewshot import groups
from cliptune.data.items import Dataset

FOLDS = 5


@dataclass(frozen=True)
class Folds:
    """Positions in a training list.

    Args:
        held: the parts, each held out once; ascending.
        always: positions that are never held out, because nothing else shows their class.
    """

    held: tuple[tuple[int, ...], ...]
    always: tuple[int, ...]

    def rest(self, fold: int) -> list[int]:
        """What is trained on while a part is held out, ascending."""
        others = (positions for number, positions in enumerate(self.held) if number != fold)
        return sorted((*self.always, *(position for part in others for position in part)))

    @property
    def scored(self) -> list[int]:
        """All positions that are held out once, ascending."""
        return sorted(position for part in self.held for position in part)


def stratified_folds(labels: Sequence[int], seed: int, most: int = FOLDS) -> Folds:
    """Parts in which the counts of a class differ by at most one, and no class is ever held out whole.

    Each class (in order of first appearance) is shuffled by one `random.Random(seed)` and dealt out; the next class
    goes on where the last one ended, so that the parts are of about one size.

    Args:
        labels: of each image.
        seed: of the shuffle.
        most: parts, at least 2; there are fewer where no class has so many images.
    Returns: no parts at all if no class has two images.
    """
    if most < 2:
        raise ValueError(f"stratified_folds: held-out parts must be at least 2, got {most}.")
    classes = groups(labels)
    parts = min(most, max((len(group) for group in classes.values()), default=0))
    held: list[list[int]] = [[] for _ in range(parts)]
    always: list[int] = []
    rng, place = random.Random(seed), 0
    for group in classes.values():
        if len(group) == 1:
            always += group
        else:
            rng.shuffle(group)
            for position in group:
                held[place % parts].append(position)
                place += 1
    filled = [tuple(sorted(part)) for part in held if part]
    return Folds(tuple(filled) if len(filled) > 1 else (), tuple(sorted(always)))


def held_out(data: Dataset, cut: Folds, fold: int, seed: int) -> Dataset:
    """A data set that is trained on without a part of its training images, which stand in the place of the test images.

    Args:
        data: sampled, and cut to its classes. cut: of its training images. fold: the part.
        seed: of the parts, which is noted as their sampling.
    """
    rule = {"held out": fold, "of": len(cut.held), "seed": seed}
    picked = data.with_picks(cut.rest(fold), range(len(data.val)), rule)
    return replace(picked, test=data.train.subset(cut.held[fold]))
