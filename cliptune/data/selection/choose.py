"""Choosing a fraction of a training set, class by class.

Source: the comparison of arXiv:2508.00395 and the library of arXiv:2204.08499. The released code reverses the signs of
    herding and CAL; the published rules are the default here, `parity=True` gives those two as released.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from cliptune.data.fewshot import groups
from cliptune.data.selection.greedy import (
    craig,
    facility_location,
    glister,
    gradient_kernel,
    graph_cut,
    herding,
    k_center,
    log_det,
)
from cliptune.data.selection.pool import Pool
from cliptune.data.selection.scores import cal, confidence, entropy, forgetting, grand, largest, margin

SELECTIONS = (
    "uniform",
    "margin",
    "least_confidence",
    "entropy",
    "herding",
    "k_center",
    "grand",
    "forgetting",
    "craig",
    "glister",
    "cal",
    "graph_cut",
    "facility_location",
    "log_det",
)


def budget(n: int, fraction: float) -> int:
    """Images that a class of n keeps: round(fraction · n), half to even as in the released code.

    Raises: ValueError unless 0 < fraction ≤ 1.
    """
    if not 0 < fraction <= 1:
        raise ValueError(f"Selection: the fraction must be above 0 and at most 1, got {fraction}. For example 0.1.")
    return round(fraction * n)


def select(
    method: str,
    pool: Pool,
    fraction: float,
    *,
    seed: int = 1,
    val: Pool | None = None,
    correct: Tensor | None = None,
    parity: bool = False,
) -> list[int]:
    """Positions in the pool that a method keeps, class after class in label order.

    Args:
        method: one of `SELECTIONS`.
        pool: the whole training set.
        fraction: share of each class that is kept, 0 < fraction ≤ 1.
        seed: of "uniform" and of the first centre of "k_center".
        val: validation images for "glister"; by default the pool's own.
        correct: for "forgetting": (E, N) bool, whether each image was classified right after each training epoch.
        parity: herding and CAL with the released code's reversed sign.
    Raises: ValueError for an unknown method or fraction, a missing `correct`, or a fraction that leaves nothing.
    """
    if method not in SELECTIONS:
        raise ValueError(f"Selection: expected one of {', '.join(SELECTIONS)}, got {method!r}.")
    if method == "forgetting" and (correct is None or correct.shape[-1:] != pool.labels.shape):
        raise ValueError(
            "Selection: forgetting counts what training forgets, so it needs `correct`, a table (epochs, images) of at "
            "least two training epochs. Train first, or choose another method."
        )
    generator = np.random.RandomState(seed)
    kept: list[int] = []
    by_class = groups(pool.labels.tolist())
    for label in sorted(by_class):
        rows = by_class[label]
        b = budget(len(rows), fraction)
        if b == len(rows) and method != "uniform":
            kept += rows
        elif b or method == "uniform":  # whose generator moves on even for nothing, as the released code's does
            chosen = _choose(method, pool.at(torch.tensor(rows)), b, generator, rows, val, correct, parity)
            kept += [rows[i] for i in chosen]
    if not kept:
        largest = max((len(rows) for rows in by_class.values()), default=0)
        raise ValueError(
            f"Selection: {fraction} of a class rounds to nothing; the largest has {largest} images. Keep more of them."
        )
    return kept


def _choose(
    method: str,
    pool: Pool,
    b: int,
    generator: np.random.RandomState,
    rows: list[int],
    val: Pool | None,
    correct: Tensor | None,
    parity: bool,
) -> list[int]:
    """Positions within one class."""
    if method == "uniform":
        return generator.choice(len(rows), b, replace=False).tolist()
    if method == "k_center":
        return k_center(pool.mixed, b, int(generator.randint(len(rows))))
    if method == "herding":
        return herding(pool.mixed, b, farthest=parity)
    if method == "craig":
        return craig(pool, b)[0]
    if method == "glister":
        of_class = None if val is None else val.at((val.labels == pool.labels[0]).nonzero().flatten())
        return glister(pool, b, of_class if of_class is not None and len(of_class.labels) else pool)
    if method == "forgetting" and correct is not None:
        return largest(forgetting(correct[:, rows]), b)
    if method == "cal":
        return largest(-cal(pool) if parity else cal(pool), b)
    greedy: dict[str, Callable[[Tensor, int], list[int]]] = {
        "graph_cut": graph_cut,
        "facility_location": facility_location,
        "log_det": log_det,
    }
    if method in greedy:
        return greedy[method](gradient_kernel(pool), b)
    scores: dict[str, Callable[[Pool], Tensor]] = {
        "margin": lambda of: -margin(of),
        "least_confidence": lambda of: -confidence(of),
        "entropy": entropy,
        "grand": grand,
    }
    return largest(scores[method](pool), b)
