"""Temperatures and prediction sets, on answers whose truth is known."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
import torch
from scipy.stats import betabinom

from cliptune.calibration import Calibration, PredictionSets, fit_temperature, scores_of, softened, true_scores

CLASSES = 6


def drawn(n: int, seed: int, sharpness: float = 2.0) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits (n, C) float64 and labels that are drawn from their softmax."""
    generator = torch.Generator().manual_seed(seed)
    logits = sharpness * torch.randn(n, CLASSES, generator=generator, dtype=torch.float64)
    return logits, torch.multinomial(logits.softmax(-1), 1, generator=generator)[:, 0]


def calibrated(logits: torch.Tensor, labels: torch.Tensor) -> Calibration:
    temperature = fit_temperature(logits, labels)
    return Calibration(temperature, true_scores(logits, labels, temperature), 5, 0.0, 0.0, 0.0)


@pytest.mark.parametrize("factor", [0.2, 1.0, 8.0])
def test_a_temperature_undoes_a_scale(factor):
    logits, labels = drawn(20_000, 0)
    assert fit_temperature(factor * logits, labels) == pytest.approx(factor, rel=0.05)


def test_answers_are_as_sure_as_they_are_right_with_one_image_more_by_chance():
    logits, labels = drawn(40, 1)
    sure = softened(logits, fit_temperature(logits, labels)).amax(-1).mean().item()
    right = (logits.argmax(-1) == labels).sum().item()
    assert sure == pytest.approx((right + 1 / CLASSES) / 41, abs=1e-9)


def test_where_all_are_right_or_nothing_differs_the_temperature_stays_finite():
    logits = torch.eye(3).repeat(4, 1)
    sure = softened(logits.double(), fit_temperature(logits, torch.arange(3).repeat(4))).amax(-1).mean()
    assert sure.item() == pytest.approx((12 + 1 / 3) / 13)
    assert fit_temperature(torch.zeros(4, 3), torch.tensor([0, 1, 2, 0])) == 1.0
    assert fit_temperature(torch.eye(3), torch.tensor([1, 2, 0])) == pytest.approx(1000)  # all wrong


def test_no_image_and_other_labels_are_a_sentence():
    with pytest.raises(ValueError, match=r"expected logits \(N, C\) with N labels, N at least 1"):
        fit_temperature(torch.zeros(0, 3), torch.zeros(0, dtype=torch.long))
    with pytest.raises(ValueError, match=r"got \(2, 3\) and \(3,\)"):
        fit_temperature(torch.zeros(2, 3), torch.zeros(3, dtype=torch.long))


@pytest.mark.parametrize("coverage", [0.5, 0.8, 0.9, 0.95])
@pytest.mark.parametrize("n", [19, 40, 99])
def test_a_threshold_is_the_rank_that_split_conformal_prediction_takes(n, coverage):
    scores = tuple(i / n for i in range(n))
    rank = math.ceil((n + 1) * Fraction(str(coverage)))
    assert Calibration(1.0, scores, 5, 0.0, 0.0, 0.0).threshold(coverage) == scores[rank - 1]


def test_a_coverage_that_so_few_images_cannot_promise_is_refused():
    few = Calibration(1.0, (0.1,) * 8, 5, 0.0, 0.0, 0.0)
    with pytest.raises(ValueError, match=r"8 held-out images carry sets of at most 0.889, got 0.9, which takes 9"):
        few.threshold(0.9)
    assert Calibration(1.0, (0.1,) * 9, 5, 0.0, 0.0, 0.0).threshold(0.9) == 0.1
    for wrong in (0.0, 1.0, 90.0):
        with pytest.raises(ValueError, match="coverage must lie between 0 and 1, such as 0.9"):
            few.threshold(wrong)


@pytest.mark.parametrize("coverage", [0.7, 0.9])
def test_coverage_is_that_of_theory_over_many_draws(coverage):
    """Of exchangeable images the count of held ones is beta-binomial; 300 draws of 50 held-out and 100 new images."""
    n, new, draws = 50, 100, 300
    rank = math.ceil((n + 1) * Fraction(str(coverage)))
    law = betabinom(new, rank, n + 1 - rank)
    held = []
    for seed in range(draws):
        logits, labels = drawn(n + new, seed)
        known = calibrated(3 * logits[:n], labels[:n])
        probabilities = softened(3 * logits[n:], known.temperature)
        own = scores_of(probabilities).gather(-1, labels[n:, None])[:, 0]
        held.append(int((own <= known.threshold(coverage)).sum()))
        inside = known.sets(probabilities, coverage)
        assert int(inside.gather(-1, labels[n:, None]).sum()) >= held[-1]  # none is empty
        assert inside.any(dim=-1).all()
    error = 3 * law.std() / math.sqrt(draws)
    assert abs(sum(held) / draws - law.mean()) < error
    assert sum(held) / draws / new > coverage - 3 * law.std() / math.sqrt(draws) / new


def test_sets_are_those_of_the_definition_and_named_in_order():
    known = Calibration(1.0, (0.1, 0.2, 0.3, 0.7), 2, 0.0, 0.0, 0.0)
    probabilities = torch.tensor([[0.2, 0.5, 0.3], [0.34, 0.33, 0.33], [0.25, 0.26, 0.49]])
    inside = known.sets(probabilities, 0.8)  # the fourth of four: 0.7, so p of at least 0.3
    assert inside.tolist() == [[False, True, True], [True, True, True], [False, False, True]]
    sets = PredictionSets(inside, probabilities, 0.8, ("lynx", "puma", "fox"))
    assert sets.names[0] == ("puma", "fox")
    assert sets.names[2] == ("fox",)
    assert sets.sizes.tolist() == [2, 3, 1]
    assert known.sets(probabilities, 0.2).tolist() == [  # 0.1: no class is so sure, the best one stands alone
        [False, True, False],
        [True, False, False],
        [False, False, True],
    ]
