"""The four ways to train a parallel prompt, against plain optimiser steps on what the towers see."""

import pytest
import torch

from cliptune.clip.ports import Ports
from cliptune.prompts import CoupledTokens, DeepTokens
from cliptune.prompts.dual import DualPrompt

START = torch.randn(3, 5, generator=torch.Generator().manual_seed(0))
GOAL = torch.randn(3, 5, generator=torch.Generator().manual_seed(1))
OMEGA, RATE = 0.2, 0.01


def opened(mode="paper", **options) -> DualPrompt:
    dual = DualPrompt(DeepTokens("text", [START]), mode, OMEGA, 0.1, **options)
    dual.open()
    return dual.train()


def seen_by_the_tower(ports: Ports) -> torch.Tensor:
    return ports.text.tokens[0]


def trajectory(dual: DualPrompt, rate: float, steps: int = 5) -> list[torch.Tensor]:
    """What the tower sees before every step of SGD on a loss that is not quadratic."""
    optimiser = torch.optim.SGD([p for p in dual.parameters() if p.requires_grad], lr=rate, momentum=0.9)
    seen = []
    for _ in range(steps):
        value = seen_by_the_tower(dual())
        seen.append(value.detach().clone())
        optimiser.zero_grad()
        (value - GOAL).abs().pow(1.5).sum().backward()
        optimiser.step()
    return seen


@pytest.mark.parametrize(
    ("mode", "factor"), [("converse", OMEGA**-2), ("released", 1 / OMEGA), ("mixed_forward", OMEGA**2)]
)
def test_each_mode_is_plain_descent_at_its_own_rate(mode, factor):
    got = trajectory(opened(mode), RATE)
    expected = trajectory(opened("paper"), RATE * factor)
    for a, b in zip(got, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_weight_zero_is_the_tuned_prompt_and_one_the_parallel_one():
    dual = opened()
    dual.parallel.layers[0].value.data.copy_(GOAL)
    dual.eval()
    for seen in (True, False):
        dual.weight = 0.0
        assert torch.equal(seen_by_the_tower(dual(seen)), START)
        dual.weight = 1.0
        assert torch.equal(seen_by_the_tower(dual(seen)), GOAL)


def test_classes_decide_the_weight():
    dual = opened()
    dual.parallel.layers[0].value.data.copy_(GOAL)
    dual.eval()
    torch.testing.assert_close(seen_by_the_tower(dual(True)), OMEGA * GOAL + (1 - OMEGA) * START)
    torch.testing.assert_close(seen_by_the_tower(dual(False)), 0.1 * GOAL + 0.9 * START)


@pytest.mark.parametrize("mode", ["converse", "released"])
def test_released_scores_trained_classes_unmixed(mode):
    dual = opened(mode)
    stored = dual.parallel.layers[0].value
    stored.data.copy_(GOAL)
    dual.eval()
    parallel = GOAL if mode == "released" else (GOAL - (1 - OMEGA) * START) / OMEGA
    torch.testing.assert_close(seen_by_the_tower(dual(True)), parallel)
    torch.testing.assert_close(seen_by_the_tower(dual(False)), 0.1 * parallel + 0.9 * START)


def test_the_tuned_prompt_learns_first_and_the_parallel_one_after_it():
    dual = DualPrompt(DeepTokens("text", [START]))
    names = lambda: {name.split(".")[0] for name, p in dual.named_parameters() if p.requires_grad}
    assert names() == {"tuned"}
    dual.tuned.layers[0].value.data.copy_(GOAL)
    assert torch.equal(seen_by_the_tower(dual()), GOAL)
    dual.open()
    assert names() == {"parallel"}
    assert torch.equal(dual.parallel.layers[0].value, GOAL)
    dual.parallel.layers[0].value.data.copy_(START)
    dual.open()
    assert torch.equal(dual.parallel.layers[0].value, START), "opening again must not begin again"


def test_a_saved_state_says_which_prompt_learns():
    fresh = DualPrompt(DeepTokens("text", [START]))
    fresh.load_state_dict(opened().state_dict())
    assert not fresh.tuned.layers[0].value.requires_grad
    assert fresh.parallel.layers[0].value.requires_grad


def coupled() -> CoupledTokens:
    torch.manual_seed(2)
    return CoupledTokens([START, GOAL], [torch.nn.Linear(5, 7), torch.nn.Linear(5, 7)])


def test_maps_stay_unless_asked_and_image_tokens_are_mixed_after_them():
    dual = DualPrompt(coupled(), base_weight=OMEGA)
    dual.open()
    assert not any(p.requires_grad for p in dual.parallel.maps.parameters())
    trained = DualPrompt(coupled(), base_weight=OMEGA, train_maps=True)
    trained.open()
    assert all(p.requires_grad for p in trained.parallel.parameters())
    with torch.no_grad():
        for p in trained.parallel.parameters():
            p.add_(torch.randn_like(p))
    ports = trained.eval()(True)
    for i in range(2):
        tuned = trained.tuned.maps[i](trained.tuned.layers[i]())
        parallel = trained.parallel.maps[i](trained.parallel.layers[i]())
        torch.testing.assert_close(ports.image.tokens[i], OMEGA * parallel + (1 - OMEGA) * tuned)
