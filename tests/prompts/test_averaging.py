"""The average of a prompt over epochs: its weights, its sum, and going on in the middle of it."""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace

import pytest
import torch

from cliptune.params import LowRank
from cliptune.prompts import DeepTokens
from cliptune.prompts.averaging import GaussianAveraging, gaussian_weights
from tests.golden.reference import golden

E = 6


def walk(prompt: DeepTokens, hooks: list[GaussianAveraging], seed: int = 0) -> list[torch.Tensor]:
    """Move a prompt at random for E epochs, showing each end to the hook of that epoch; its matrices before the end."""
    generator, seen = torch.Generator().manual_seed(seed), []
    for epoch in range(E):
        for parameter in prompt.parameters():
            parameter.data += torch.randn(parameter.shape, generator=generator)
        seen.append(prompt().text.tokens[0].detach().clone())
        hooks[epoch](SimpleNamespace(prompt=prompt), epoch, E)
    return seen


@pytest.mark.parametrize("name", golden("promptsrc")[0]["gauss_weights"])
def test_weights_equal_the_release(name):
    epochs, mean, std = (int("".join(filter(str.isdigit, part))) for part in name.split("_"))
    expected = torch.tensor(golden("promptsrc")[0]["gauss_weights"][name], dtype=torch.float64)
    torch.testing.assert_close(gaussian_weights(epochs, mean, std), expected, rtol=1e-9, atol=0)


def test_weights_sum_to_one_and_are_even_for_a_wide_curve():
    assert float(gaussian_weights(20, 15, 1).sum()) == pytest.approx(1)
    torch.testing.assert_close(gaussian_weights(7, 3, 1e6), torch.full((7,), 1 / 7, dtype=torch.float64))
    # A centre far behind the end takes the last epoch and never divides by zero.
    assert float(gaussian_weights(3, 500, 1)[-1]) == pytest.approx(1)
    with pytest.raises(ValueError, match="above 0 epochs"):
        GaussianAveraging(3, 0)


def test_the_prompt_becomes_the_weighted_sum_of_its_epochs():
    prompt = DeepTokens("text", [torch.zeros(4, 24)])
    seen = walk(prompt, [GaussianAveraging(4, 1.5)] * E)
    expected = sum(w * p for w, p in zip(gaussian_weights(E, 4, 1.5).tolist(), seen, strict=True))
    torch.testing.assert_close(prompt().text.tokens[0], expected)


def test_going_on_from_saved_state_is_bit_exact():
    whole, parts = (DeepTokens("text", [torch.zeros(4, 24)]) for _ in range(2))
    walk(whole, [GaussianAveraging(4, 1.5)] * E)
    first, second = GaussianAveraging(4, 1.5), GaussianAveraging(4, 1.5)

    def hand_over(adapter, epoch, epochs):
        second.load_state_dict(first.state_dict())
        second(adapter, epoch, epochs)

    walk(parts, [first, first, first, hand_over, second, second])
    assert torch.equal(whole.layers[0].value, parts.layers[0].value)


def test_low_rank_matrices_are_averaged_as_matrices():
    prompt = DeepTokens("text", [torch.ones(4, 24)], partial(LowRank, rank=1, dropout=0.0))
    seen = walk(prompt, [GaussianAveraging(4, 1.5)] * E)
    expected = sum(w * p for w, p in zip(gaussian_weights(E, 4, 1.5).tolist(), seen, strict=True))
    torch.testing.assert_close(prompt().text.tokens[0], expected, rtol=1e-4, atol=1e-4)
