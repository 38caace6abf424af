"""The smallest training risk over weightings, against scipy and weightings drawn at random."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from cliptune.analysis.risk import project, risk, risk_check, smallest_risk
from cliptune.batch import Batch
from cliptune.registry import build
from tests.analysis.test_prm import adapter
from tests.conftest import CLASS_NAMES


def test_the_best_is_scipys_and_the_bound_is_below():
    torch.manual_seed(3)
    scores, labels = 3 * torch.randn(12, 3, 4).double(), torch.randint(3, (12,))
    start = torch.full((3, 4), 0.25).double()
    best, bound = smallest_risk(scores, labels, start, gap=1e-6)
    found = minimize(
        lambda w: risk(scores, labels, torch.from_numpy(w.reshape(3, 4))),
        np.full(12, 0.25),
        bounds=[(0, 1)] * 12,
        constraints=[{"type": "eq", "fun": lambda w, c=c: w.reshape(3, 4)[c].sum() - 1} for c in range(3)],
        options={"ftol": 1e-12, "maxiter": 500},
    )
    assert best == pytest.approx(found.fun, abs=1e-5)
    assert bound <= found.fun + 1e-6
    assert best - bound <= 1e-6
    for _ in range(200):
        weight = torch.distributions.Dirichlet(torch.ones(4).double()).sample((3,))
        assert risk(scores, labels, weight) >= best - 1e-9


def test_projection_is_the_nearest_weighting():
    rows = torch.randn(5, 6).double()
    found = project(rows)
    torch.testing.assert_close(found.sum(1), torch.ones(5).double())
    assert float(found.min()) >= 0
    torch.testing.assert_close(project(found), found)
    for _ in range(100):
        other = torch.distributions.Dirichlet(torch.ones(6).double()).sample((5,))
        assert bool(((rows - found).norm(dim=1) <= (rows - other).norm(dim=1) + 1e-9).all())


def test_every_fixed_weighting_is_at_least_the_best(tiny_clip, images):
    one = adapter(tiny_clip)
    one.head.weight.copy_(torch.rand_like(one.head.weight).softmax(dim=1))
    batch = Batch.of(images, torch.tensor([3, 0, 2]))
    found = risk_check(one, [batch[:1], batch[1:]], steps=300)
    assert set(found.fixed) == {"even", "votes", "heaviest", "best single"}
    assert all(found.best <= value + 1e-9 for value in found.fixed.values())
    assert found.bound <= found.best
    logits = one(batch).logits
    assert found.fixed["votes"] == pytest.approx(
        float(torch.nn.functional.cross_entropy(logits, batch.labels)), rel=1e-4
    )
    assert found.n == 3
    assert "no weighting is below" in found.sentence()


def test_another_head_is_a_sentence(tiny_clip, images):
    with pytest.raises(ValueError, match="no reweighting matrix"):
        risk_check(build("coop", tiny_clip, CLASS_NAMES).adapter, [Batch.of(images)])
