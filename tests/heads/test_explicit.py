"""The written-out gradient of cross-entropy, against autograd."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from cliptune.heads.explicit import FEW, errors, working_dtype


def test_errors_are_autograds_gradient_and_leave_the_logits_alone():
    logits, labels = 20 * torch.randn(7, 5, generator=torch.Generator().manual_seed(1)).double(), torch.arange(7) % 5
    before = logits.clone()
    found = errors(logits, labels)
    assert torch.equal(logits, before)
    loss = F.cross_entropy(logits.requires_grad_(), labels, reduction="sum")
    (expected,) = torch.autograd.grad(loss, logits)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-14)


@pytest.mark.parametrize(
    ("multiplications", "given", "expected"),
    [
        (FEW, torch.float32, torch.float64),
        (FEW + 1, torch.float32, torch.float32),
        (FEW + 1, torch.float64, torch.float64),
    ],
)
def test_float32_is_for_long_trainings_of_heads_that_are_not_float64(multiplications, given, expected):
    assert working_dtype(multiplications, given) == expected
