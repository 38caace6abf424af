import pytest
import torch
from torch import nn

from cliptune.recipe import OptimiserConfig
from cliptune.training import optim
from cliptune.training.optim import build_optimiser, load_optimiser_tensors, optimiser_tensors, set_rate


def parameter() -> nn.Parameter:
    return nn.Parameter(torch.tensor([1.0, -2.0, 3.0], dtype=torch.float64))


def test_sgd_is_momentum_with_weight_decay_in_the_gradient():
    p = parameter()
    optimiser = build_optimiser(OptimiserConfig(lr=1.0, momentum=0.9, weight_decay=0.01), [p])
    value, velocity = p.detach().clone(), torch.zeros(3, dtype=torch.float64)
    for step in range(3):
        gradient = torch.tensor([0.5, step, -1.0], dtype=torch.float64)
        rate = 0.1 / (step + 1)
        p.grad = gradient.clone()
        set_rate(optimiser, rate)
        optimiser.step()
        velocity = 0.9 * velocity + gradient + 0.01 * value
        value = value - rate * velocity
        assert torch.allclose(p.detach(), value, rtol=1e-14)


def test_adamw_is_decoupled():
    p = parameter()
    start = p.detach().clone()
    optimiser = build_optimiser(OptimiserConfig(lr=0.1, name="adamw", weight_decay=0.5, eps=1e-4), [p])
    p.grad = torch.tensor([2.0, -4.0, 0.0], dtype=torch.float64)
    optimiser.step()
    gradient = torch.tensor([2.0, -4.0, 0.0], dtype=torch.float64)
    expected = start * (1 - 0.1 * 0.5) - 0.1 * gradient / (gradient.abs() + 1e-4)
    assert torch.allclose(p.detach(), expected, rtol=1e-12)


def test_adam_has_its_weight_decay_in_the_gradient():
    p = parameter()
    start = p.detach().clone()
    optimiser = build_optimiser(OptimiserConfig(lr=0.1, name="adam", weight_decay=0.5, eps=1e-4), [p])
    p.grad = torch.tensor([2.0, -4.0, 0.0], dtype=torch.float64)
    optimiser.step()
    gradient = torch.tensor([2.0, -4.0, 0.0], dtype=torch.float64) + 0.5 * start
    expected = start - 0.1 * gradient / (gradient.abs() + 1e-4)
    assert torch.allclose(p.detach(), expected, rtol=1e-12)


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw"])
def test_saved_moments_continue_exactly(name):
    config = OptimiserConfig(lr=0.1, name=name)
    gradients = torch.randn(6, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    p = parameter()
    optimiser = build_optimiser(config, [p])
    for step, gradient in enumerate(gradients):
        if step == 3:
            saved = {key: value.clone() for key, value in optimiser_tensors(optimiser, {"ctx": p}).items()}
            q = nn.Parameter(p.detach().clone())
            other = build_optimiser(config, [q])
            load_optimiser_tensors(other, {"ctx": q}, saved)
        p.grad = gradient.clone()
        optimiser.step()
        if step >= 3:
            q.grad = gradient.clone()
            other.step()
    assert torch.equal(p, q)
    assert all(key.endswith("/ctx") for key in saved)


@pytest.mark.parametrize("name", ["adam", "adamw"])
def test_the_one_pass_over_large_learnables_is_the_plain_update_and_continues_exactly(name, monkeypatch):
    config = OptimiserConfig(lr=0.1, name=name, weight_decay=0.01)
    gradients = torch.randn(4, 999, generator=torch.Generator().manual_seed(0))
    ends = []
    for large in (10**9, 1):
        monkeypatch.setattr(optim, "LARGE", large)
        p = nn.Parameter(torch.linspace(-1, 1, 999))
        optimiser = build_optimiser(config, [p])
        for step, gradient in enumerate(gradients):
            if step == 2:
                saved = {key: value.clone() for key, value in optimiser_tensors(optimiser, {"ctx": p}).items()}
                p = nn.Parameter(p.detach().clone())
                optimiser = build_optimiser(config, [p])
                load_optimiser_tensors(optimiser, {"ctx": p}, saved)
            p.grad = gradient.clone()
            optimiser.step()
        assert bool(optimiser.defaults["fused"]) == (large == 1)
        ends.append(p.detach())
    torch.testing.assert_close(*ends, rtol=1e-6, atol=1e-6)


def test_moments_of_an_unknown_parameter_are_refused():
    optimiser = build_optimiser(OptimiserConfig(lr=0.1), [p := parameter()])
    with pytest.raises(ValueError, match="'momentum_buffer/other', but no parameter of that name"):
        load_optimiser_tensors(optimiser, {"ctx": p}, {"momentum_buffer/other": torch.zeros(3)})


def test_nothing_to_train_is_refused():
    with pytest.raises(ValueError, match="no parameter that trains"):
        build_optimiser(OptimiserConfig(lr=0.1), [])
