import numpy as np
import pytest

from cliptune.choosing import corrected


def plainly(right, draws, seed):
    """The same draws, with loops."""
    random, n = np.random.default_rng(seed), len(right)
    scores = []
    for _ in range(draws):
        counts = random.multinomial(n, np.full(n, 1 / n))
        drawn = [sum(counts[i] * right[i][m] for i in range(n)) for m in range(len(right[0]))]
        best = drawn.index(max(drawn))
        left = [right[i][best] for i in range(n) if counts[i] == 0]
        if left:
            scores.append(sum(left) / len(left))
    return sum(scores) / len(scores)


def test_the_estimate_is_that_of_the_formula():
    right = np.random.default_rng(3).random((23, 4)) < [0.4, 0.5, 0.6, 0.5]
    assert corrected(right, draws=300, seed=7).estimate == pytest.approx(plainly(right.tolist(), 300, 7))


def test_the_best_of_many_guesses_is_not_believed():
    """Forty candidates that guess: the best looks much better than chance, the corrected estimate does not."""
    best, estimates, covered = [], [], 0
    for seed in range(60):
        right = np.random.default_rng(seed).random((50, 40)) < 0.5
        found = corrected(right, draws=200, seed=seed)
        best.append(right.mean(axis=0).max())
        estimates.append(found.estimate)
        covered += found.low <= 0.5 <= found.high
    assert np.mean(best) > 0.64
    assert abs(np.mean(estimates) - 0.5) < 0.02
    assert covered >= 54


def test_one_candidate_is_estimated_by_its_own_answers():
    right = np.random.default_rng(1).random((400, 1)) < 0.8
    found = corrected(right, seed=1)
    assert found.estimate == pytest.approx(right.mean(), abs=0.01)
    assert found.low < right.mean() < found.high


def test_the_draws_follow_the_seed():
    right = np.random.default_rng(1).random((40, 3)) < 0.5
    assert corrected(right, seed=1) == corrected(right, seed=1) != corrected(right, seed=2)


@pytest.mark.parametrize("shape", [(1, 2), (3, 0), (4,)])
def test_too_little_to_estimate_from_is_refused(shape):
    with pytest.raises(ValueError, match="at least two images by at least one candidate"):
        corrected(np.zeros(shape, dtype=bool))
