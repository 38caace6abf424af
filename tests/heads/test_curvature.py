"""Approximations of a logistic regression's curvature against the curvature itself, by autograd."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from cliptune.heads import curvature, logistic
from cliptune.heads.curvature import Own, Shared
from cliptune.heads.logistic import LogisticRegression

N, D, C = 60, 5, 4


def world(n: int = N, width: int = D, classes: int = C) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Features, labels, W (D, C) and b (C,) in float64."""
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(n, width, generator=draw, dtype=torch.float64)
    weight, bias = torch.randn(width, classes, generator=draw).double(), torch.randn(classes, generator=draw).double()
    return x, torch.arange(n) % classes, weight, bias


def unsure(x: Tensor, weight: Tensor, bias: Tensor, rows: int = 17):
    p = F.softmax(x @ weight + bias, dim=1)

    def chunks():
        for start in range(0, len(x), rows):
            part = p[start : start + rows].float()
            yield slice(start, start + rows), part, part * (1 - part)

    return chunks


def hessian(x: Tensor, y: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """(C, D + 1, C, D + 1) of the mean loss, weights before the bias."""
    both = torch.cat([weight, bias[None]]).T.contiguous()
    one = torch.cat([x, x.new_ones(len(x), 1)], dim=1)
    return torch.autograd.functional.hessian(lambda at: F.cross_entropy(one @ at.T, y), both)


def test_a_classs_own_curvature_is_the_block_of_the_whole():
    x, y, weight, bias = world()
    whole = hessian(x, y, weight, bias)
    own = Own.of(weight, x.float(), unsure(x, weight, bias))
    for c in range(C):
        torch.testing.assert_close(own.curvature[c].double(), whole[c, :, c], atol=1e-6, rtol=1e-4)


def test_images_beyond_the_most_uncertain_count_as_their_average(monkeypatch):
    x, _, weight, bias = world()
    monkeypatch.setattr(curvature, "IMAGES", 20)
    monkeypatch.setattr(curvature, "ROWS", 7)
    own = Own.of(weight, x.float(), unsure(x, weight, bias))
    p = F.softmax(x @ weight + bias, dim=1)
    share, one = p * (1 - p), torch.cat([x, x.new_ones(N, 1)], dim=1)
    top = share.topk(20, dim=0)
    left = share.scatter(0, top.indices, 0.0)
    average = one.T @ (left.sum(dim=1, keepdim=True) * one) / left.sum()
    for c in range(C):
        z = one[top.indices[:, c]]
        expected = (z.T @ (top.values[:, c, None] * z) + left[:, c].sum() * average) / N
        torch.testing.assert_close(own.curvature[c].double(), expected, atol=1e-6, rtol=1e-4)
    # What is certain of each class is what it was: only where it lies is taken from the average.
    torch.testing.assert_close(own.curvature[:, -1, -1].double(), share.mean(dim=0), atol=1e-6, rtol=1e-5)


def test_a_step_by_classes_solves_each_of_them_alone():
    x, y, weight, bias = world()
    whole, penalty = hessian(x, y, weight, bias), 0.03
    eased = Own.of(weight, x.float(), unsure(x, weight, bias)).eased(penalty)(weight, bias)
    both, held = torch.cat([weight, bias[None]]), torch.diag(torch.tensor([penalty] * D + [0.0]).double())
    expected = torch.stack([torch.linalg.solve(whole[c, :, c] + held, both[:, c]) for c in range(C)], dim=1)
    expected -= expected.mean(dim=1, keepdim=True)
    torch.testing.assert_close(torch.cat([eased[0], eased[1][None]]), expected, atol=1e-4, rtol=1e-3)


def test_damping_holds_biases_as_well():
    x, y, weight, bias = world()
    whole, penalty, damping = hessian(x, y, weight, bias), 0.03, 0.2
    both = torch.cat([weight, bias[None]])
    held = torch.diag(torch.tensor([penalty + damping] * D + [damping]).double())
    expected = torch.stack([torch.linalg.solve(whole[c, :, c] + held, both[:, c]) for c in range(C)], dim=1)
    expected -= expected.mean(dim=1, keepdim=True)
    eased = Own.of(weight, x.float(), unsure(x, weight, bias)).eased(penalty, damping)(weight, bias)
    torch.testing.assert_close(torch.cat([eased[0], eased[1][None]]), expected, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("norm", [1e-6, 1e-3, 1e4])
def test_steps_by_classes_do_not_depend_on_the_norm_of_features(norm):
    x, _, weight, bias = world()
    first = Own.of(weight, x.float(), unsure(x, weight, bias)).eased(0.01)(weight, bias)
    far = Own.of(weight / norm, (x * norm).float(), unsure(x, weight, bias)).eased(0.01 * norm**2)
    step = far(weight * norm, bias)
    torch.testing.assert_close(step[0] * norm, first[0], atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(step[1], first[1], atol=1e-4, rtol=1e-3)


def test_features_beyond_float32_get_a_sentence():
    own = Own(torch.ones(2, 2).double(), torch.full((2, 3, 3), float("inf")))
    with pytest.raises(ValueError, match="curvature of class 0 has no inverse"):
        own.eased(1.0)


def test_an_inverse_serves_penalties_that_are_near():
    x, _, weight, bias = world()
    own = Own.of(weight, x.float(), unsure(x, weight, bias))
    own.eased(0.1)
    kept = own.inverse
    own.eased(0.1 * curvature.REUSED)
    assert own.inverse is kept
    own.eased(0.11 * curvature.REUSED)
    assert own.inverse is not kept
    assert own.penalty == 0.11 * curvature.REUSED


def test_of_two_classes_the_product_is_the_whole():
    x, y, weight, bias = world(classes=2)
    x -= x.mean(dim=0)  # and then no weight moves with a bias, where all images are equally uncertain
    weight, bias = torch.zeros_like(weight), torch.zeros_like(bias)
    whole, penalty = hessian(x, y, weight, bias).flatten(0, 1).flatten(1), 0.2
    right = torch.cat([x[:1].T, -x[:1].T], dim=1)
    eased, _ = Shared.of(weight, x.float(), unsure(x, weight, bias)).eased(penalty)(right, bias)
    held = torch.diag(torch.tensor(([penalty] * D + [1.0]) * 2).double())
    expected = torch.linalg.solve(whole + held, torch.cat([right, bias[None]]).T.flatten()).view(2, D + 1)[:, :D].T
    torch.testing.assert_close(eased, expected, atol=1e-5, rtol=1e-4)


def test_curvatures_without_room_are_not_made():
    assert Own.fits(512, 100)
    assert not Own.fits(512, 1000)


@pytest.mark.parametrize("c", [100.0, 1e4])
def test_classes_that_differ_in_what_tells_them_apart_take_few_products(monkeypatch, c):
    draw = torch.Generator().manual_seed(1)
    classes, each, width = 12, 40, 24
    # Each class is spread along directions of its own.
    turned = torch.linalg.qr(torch.randn(classes, width, width, generator=draw))[0]
    spread = torch.randn(classes, each, width, generator=draw) * torch.logspace(0, -3, width) @ turned
    x = (0.3 * torch.randn(classes, 1, width, generator=draw) + spread).flatten(0, 1)
    y = torch.arange(classes).repeat_interleave(each)
    monkeypatch.setattr(logistic, "MANY", 1)
    own = LogisticRegression(x, y, classes).fit(c, 1e-6)
    monkeypatch.setattr(curvature, "OWN", 0)
    shared = LogisticRegression(x, y, classes).fit(c, 1e-6)
    assert (own.weight - shared.weight).norm() <= 1e-6 * shared.weight.norm()
    assert own.passes < shared.passes / 1.8
