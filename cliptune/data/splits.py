"""Cutting data: base and new classes, and train, val and test out of one list."""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Sequence

from cliptune.data.fewshot import groups

CLASS_SUBSETS = ("all", "base", "new")

FRACTIONS = (0.5, 0.2, 0.3)
"""Train, val and test share of a class when nobody has split the data: the field's fallback
(arXiv:2109.01134).
"""


def base_or_new(labels: Iterable[int], which: str) -> list[int]:
    """Labels of the base or new classes, ascending: base is the first ⌈C/2⌉ of those present, new the rest.

    Args:
        labels: labels of the training list; those that do not occur in it count for neither half.
        which: "all", "base" or "new".
    """
    if which not in CLASS_SUBSETS:
        raise ValueError(f"Class subset: expected one of {', '.join(CLASS_SUBSETS)}, got {which!r}.")
    present = sorted(set(labels))
    half = math.ceil(len(present) / 2)
    return {"all": present, "base": present[:half], "new": present[half:]}[which]


def stratified(
    labels: Sequence[int], seed: int, fractions: Sequence[float] = FRACTIONS
) -> tuple[list[int], list[int], list[int]]:
    """Positions for train, val and test, the same shares of every class.

    Each class (in order of first appearance) is shuffled by one `random.Random(seed)`; the first round(f·n)
    images (half to even) go to train, the next to val, the rest to test. Where a class is so small that
    rounding would leave train or test empty, train gets its one image first, then test, then val.

    Args:
        labels: label of each image, in a fixed order.
        seed: of the shuffle.
        fractions: train, val and test; each ≥ 0, train > 0, sum 1.
    """
    train_share, val_share, test_share = _checked(fractions)
    rng = random.Random(seed)
    train: list[int] = []
    val: list[int] = []
    test: list[int] = []
    for group in groups(labels).values():
        rng.shuffle(group)
        n_train, n_val = _counts(len(group), train_share, val_share, test_share)
        train += group[:n_train]
        val += group[n_train : n_train + n_val]
        test += group[n_train + n_val :]
    return train, val, test


def split_trainval(labels: Sequence[int], seed: int, val_share: float = 0.2) -> tuple[list[int], list[int]]:
    """Positions for train and val where the test split is official: round(0.2 n) of every shuffled class go to val.

    Each class (in order of first appearance) is shuffled by one `random.Random(seed)`; a class of one or two images
    has none for val.

    Args:
        labels: label of each image, in a fixed order.
        seed: of the shuffle.
        val_share: of a class, 0 ≤ share < 1; rounded half to even.
    """
    rng = random.Random(seed)
    train: list[int] = []
    val: list[int] = []
    for group in groups(labels).values():
        rng.shuffle(group)
        n_val = round(len(group) * val_share)
        val += group[:n_val]
        train += group[n_val:]
    return train, val


def _counts(n: int, train_share: float, val_share: float, test_share: float) -> tuple[int, int]:
    n_train = max(1, round(n * train_share))
    n_val = min(round(n * val_share), n - n_train)
    if test_share == 0:
        return n - n_val, n_val
    if n > 1 and n_train + n_val == n:  # rounding left nothing to test on
        if n_val:
            n_val -= 1
        else:
            n_train -= 1
    return n_train, n_val


def _checked(fractions: Sequence[float]) -> tuple[float, float, float]:
    shares = tuple(float(share) for share in fractions)
    if len(shares) != 3 or min(shares) < 0 or shares[0] == 0 or not math.isclose(sum(shares), 1, abs_tol=1e-6):
        raise ValueError(
            "Split fractions: expected three shares (train, val, test), none negative, train above 0, with "
            f"sum 1, got {tuple(fractions)}. For example (0.5, 0.2, 0.3)."
        )
    return shares[0], shares[1], shares[2]
