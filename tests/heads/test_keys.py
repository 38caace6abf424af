"""Votes of keys, against the formula and the product with one-hot labels, gradients included."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from cliptune.clip.towers import products
from cliptune.heads.keys import by_class, nearness


@pytest.mark.parametrize("least", [2**24, 0])  # multiplications that the other kernel is asked for
@pytest.mark.parametrize("lead", [(3,), (3, 2)])
@pytest.mark.parametrize("labels", [torch.arange(4), torch.tensor([3, 0, 0, 3, 3]), torch.zeros(0).long()], ids=str)
def test_votes_and_gradients_are_those_of_the_products(lead, labels, least, monkeypatch):
    monkeypatch.setattr(products, "_LARGE", least)
    dtype = torch.float64 if least else torch.float32  # the other kernel's own
    generator = torch.Generator().manual_seed(2)
    feature = F.normalize(torch.randn(*lead, 6, generator=generator).to(dtype), dim=-1).requires_grad_()
    keys = torch.randn(len(labels), 6, generator=generator).to(dtype).requires_grad_()
    weight, beta = torch.randn(*lead, 4, generator=generator).to(dtype), torch.tensor(1.5).to(dtype)
    found = by_class(nearness(feature, keys, beta), labels, 4)
    expected = (-beta * (1 - feature @ keys.T)).exp() @ F.one_hot(labels, 4).to(dtype)
    torch.testing.assert_close(found, expected)
    assert found.shape == (*lead, 4)
    for one, other in zip(
        torch.autograd.grad((weight * found).sum(), [feature, keys]),
        torch.autograd.grad((weight * expected).sum(), [feature, keys]),
        strict=True,
    ):
        torch.testing.assert_close(one, other)
