import json
import math
import re

import pytest

from cliptune.recipe import OptimiserConfig
from cliptune.training import learning_rate
from tests.conftest import GOLDEN

SEQUENCES = json.loads((GOLDEN / "learning_rates.json").read_text())


@pytest.mark.parametrize("name", sorted(SEQUENCES))
def test_rates_equal_the_published_schedule(name):
    expected = SEQUENCES[name]
    lr, epochs = re.match(r"lr([\d.]+)_ep(\d+)", name).groups()
    config = OptimiserConfig(lr=float(lr), recount="norecount" not in name)
    rates = [learning_rate(config, e, int(epochs)) for e in range(int(epochs))]
    assert len(rates) == len(expected)
    assert rates == pytest.approx(expected, rel=1e-12)


def test_rate_does_not_change_within_an_epoch_by_default():
    config = OptimiserConfig(lr=0.002)
    assert {learning_rate(config, 3, 10, step, 7) for step in range(7)} == {learning_rate(config, 3, 10)}


def test_cosine_per_step_without_warmup_runs_to_its_end():
    config = OptimiserConfig(lr=40.0, per="step", warmup_epochs=0)
    epochs, steps = 5, 4
    rates = [learning_rate(config, e, epochs, s, steps) for e in range(epochs) for s in range(steps)]
    assert rates == pytest.approx([20 * (1 + math.cos(math.pi * t / 20)) for t in range(20)])


def test_cosine_ends_at_the_minimum():
    config = OptimiserConfig(lr=1.0, min_lr=0.25, warmup_epochs=0)
    assert learning_rate(config, 5, 10) == pytest.approx(0.25 + 0.75 / 2)


def test_linear_warmup_rises_from_the_warmup_rate_to_the_peak():
    config = OptimiserConfig(lr=0.4, warmup="linear", warmup_epochs=4, warmup_lr=1e-5, schedule="constant")
    assert [learning_rate(config, e, 8) for e in range(6)] == pytest.approx([1e-5, 0.1, 0.2, 0.3, 0.4, 0.4])


def test_a_position_outside_the_stage_is_refused():
    with pytest.raises(ValueError, match="epoch 5, step 0 lies outside a stage of 5 epochs"):
        learning_rate(OptimiserConfig(lr=0.1), 5, 5)
