"""How good the best of several candidates is, corrected for its having been chosen."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from cliptune.results.statistics import DRAWS, Interval

SOURCE = "bootstrap bias corrected cross-validation (arXiv:1708.07180)"


def corrected(right: ArrayLike, *, draws: int = DRAWS, seed: int = 0, level: float = 0.95) -> Interval:
    """Accuracy of the candidate that is best on some images, on images that did not choose it.

    The best of several scores is too high on average, for chance had a part in its being best. So images are drawn with
    replacement, as many as there are; those drawn choose the candidate, the first of the best, and those not drawn
    score it. The mean over the draws is the estimate, their percentiles the interval. It stands for a nested
    cross-validation without its trainings, and is rather too low than too high, because fewer images choose.

    Args:
        right: (N, M) bool, whether each of M candidates was right on each of N held-out images.
        draws: at least 1. seed: of the draws.
        level: of confidence, in (0, 1).
    Returns: shares in [0, 1].
    Raises: ValueError for fewer than two images or no candidate.
    Source: BBC-CV (arXiv:1708.07180), with its interval.
    """
    answers = np.asarray(right, dtype=np.float64)
    if answers.ndim != 2 or len(answers) < 2 or not answers.shape[1]:
        raise ValueError(
            f"corrected: expected answers (N, M) to at least two images by at least one candidate, got shape "
            f"{answers.shape}."
        )
    random, n = np.random.default_rng(seed), len(answers)
    scores = []
    for counts in random.multinomial(n, np.full(n, 1 / n), size=draws):
        left = counts == 0
        if left.any():  # of two images, both may be drawn
            scores.append(answers[left, int((counts @ answers).argmax())].mean())
    low, high = np.quantile(scores, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(np.mean(scores)), float(low), float(high))
