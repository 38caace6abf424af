"""Products with frozen weights by torch's other kernel, and CLIP's activation, against the formulas."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from cliptune.clip.towers import products

ROWS, INNER, OUTER = 160, 256, 512  # more multiplications than the least that the other kernel is asked for


@pytest.fixture(params=["contiguous", "part", "turned"])
def x(request) -> Tensor:
    g = torch.Generator().manual_seed(1)
    if request.param == "contiguous":
        return torch.randn(2, ROWS, INNER, generator=g)
    if request.param == "part":
        return torch.randn(2, ROWS + 7, INNER, generator=g)[:, 3 : 3 + ROWS]
    return torch.randn(2, INNER, ROWS, generator=g).mT


@pytest.fixture
def weight() -> Tensor:
    return torch.randn(OUTER, INNER, generator=torch.Generator().manual_seed(2)) * INNER**-0.5


@pytest.mark.parametrize("biased", [True, False])
def test_a_product_is_that_of_torch(x, weight, biased):
    bias = torch.linspace(-1, 1, OUTER) if biased else None
    assert x.numel() * OUTER >= products._LARGE
    torch.testing.assert_close(products.linear(x, weight, bias), F.linear(x, weight, bias), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("expanded", [True, False])
def test_its_gradient_is_that_of_torch(x, weight, expanded):
    outer = torch.linspace(-1, 1, OUTER)
    outer = outer.expand(2, ROWS, OUTER) if expanded else torch.outer(torch.ones(ROWS), outer)[None].repeat(2, 1, 1)
    found = []
    for linear in (products.linear, F.linear):
        asked = x.clone().requires_grad_()
        linear(asked, weight, None).backward(outer)
        found.append(asked.grad)
    torch.testing.assert_close(*found, rtol=1e-5, atol=1e-5)


def test_rows_without_a_gradient_ask_for_none_and_learnable_weights_get_theirs(x, weight):
    assert not products.linear(x, weight).requires_grad
    learned = weight.clone().requires_grad_()
    products.linear(x, learned).sum().backward()
    torch.testing.assert_close(learned.grad, x.flatten(0, 1).sum(0).expand_as(weight), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("asking", ["x", "weight", "both", "none"])
def test_a_product_with_a_learned_map_and_its_gradients_are_those_of_torch(x, weight, asking):
    outer, found = torch.linspace(-1, 1, OUTER), []
    assert products.gains(x, weight) == products.other_kernel()
    for linear in (products.learned_linear, F.linear):
        leaves = (
            x.clone().requires_grad_(asking in ("x", "both")),
            weight.clone().requires_grad_(asking in ("weight", "both")),
        )
        out = linear(*leaves)
        assert out.requires_grad == (asking != "none")
        if out.requires_grad:
            out.square().mul(outer).mean().backward()
        found.append((out.detach(), *(leaf.grad for leaf in leaves)))
    for one, other in zip(*found, strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


def test_small_products_with_a_learned_map_are_torchs_to_the_bit(x, weight):
    few = x[:, :9]
    assert not products.gains(few, weight)
    assert torch.equal(products.learned_linear(few, weight), F.linear(few, weight))


def test_products_can_be_derived_twice(x, weight):
    asked = x.clone().requires_grad_()
    (first,) = torch.autograd.grad(products.linear(asked, weight).square().sum(), asked, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), asked)
    plain = (torch.ones_like(x) @ weight.T) @ weight * 2
    torch.testing.assert_close(second, plain, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("reason", ["small", "half", "kernel"])
def test_torchs_own_product_stands_where_the_other_does_not_suit(x, weight, reason, monkeypatch):
    def refuse(*_: object) -> Tensor:
        raise AssertionError("The other kernel was asked.")

    monkeypatch.setattr(products, "_by_onednn", refuse)
    if reason == "kernel":
        monkeypatch.setattr(products, "other_kernel", lambda: False)
    elif reason == "small":
        x = x[:, :4]
    else:
        x, weight = x.bfloat16(), weight.bfloat16()
    assert torch.equal(products.linear(x, weight), F.linear(x, weight))


def test_the_kernel_is_taken_by_the_processor_and_tried_once(monkeypatch):
    products.other_kernel.cache_clear()
    try:
        monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
        assert products.kernel() == "torch"
        products.other_kernel.cache_clear()
        monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")

        def missing(*_: object) -> Tensor:
            raise AttributeError("no such operator")

        monkeypatch.setattr(products, "_by_onednn", missing)
        assert products.kernel() == "torch"
    finally:
        products.other_kernel.cache_clear()


def test_quick_gelu_and_its_derivatives_are_the_formula():
    u = torch.linspace(-6, 6, 101).requires_grad_()
    found, plain = products.QuickGELU()(u), u * torch.sigmoid(1.702 * u)
    torch.testing.assert_close(found, plain, rtol=1e-6, atol=1e-7)
    weights, before = torch.linspace(1, 2, 101), u.detach().clone()
    first = [torch.autograd.grad((out * weights).sum(), u, create_graph=True)[0] for out in (found, plain)]
    torch.testing.assert_close(*first, rtol=1e-5, atol=1e-6)
    second = [torch.autograd.grad((gradient * weights).sum(), u)[0] for gradient in first]
    torch.testing.assert_close(*second, rtol=1e-5, atol=1e-6)
    with torch.no_grad():
        assert torch.equal(products.QuickGELU()(u), found)
    assert torch.equal(u, before)


def test_who_writes_down_a_program_sees_torchs_own_operators(weight):
    class Two(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.map, self.bend = products.FrozenLinear(INNER, OUTER), products.QuickGELU()
            self.requires_grad_(False)

        def forward(self, x: Tensor) -> Tensor:
            return self.bend(self.map(x))

    two, shown = Two(), torch.randn(2, ROWS, INNER)
    program = torch.export.export(two, (shown,))
    assert not any("mkldnn" in str(node.target) for node in program.graph.nodes)
    torch.testing.assert_close(program.module()(shown), two(shown), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("rows", [slice(100, None), slice(None, 20), slice(20, 100)])
@pytest.mark.parametrize("outer", [8, OUTER])
def test_rows_that_do_not_move_get_no_gradient(x, weight, rows, outer):
    weight, weights = weight[:outer], torch.linspace(-1, 1, ROWS)[:, None]
    found = []
    for moving in (rows, None):
        asked = x.clone().requires_grad_()
        (products.linear(asked, weight, None, moving) * weights).sum().backward()
        found.append(asked.grad)
    torch.testing.assert_close(found[0][:, rows], found[1][:, rows])
    assert found[0].abs().sum() == pytest.approx(float(found[0][:, rows].abs().sum()))
