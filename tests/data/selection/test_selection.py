"""Every rule against its formula, with the gradients written out and loops over subsets."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch

from cliptune.data.selection import SELECTIONS, Pool, budget, select
from cliptune.data.selection.greedy import (
    craig,
    facility_location,
    glister,
    gradient_kernel,
    graph_cut,
    herding,
    k_center,
    log_det,
)
from cliptune.data.selection.scores import cal, confidence, entropy, forgetting, grand, largest, margin

N, C, D = 17, 4, 6


def pool_of(seed: int, n: int = N, label: int | None = None) -> Pool:
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(n, C, generator=generator, dtype=torch.float64)
    labels = torch.randint(C, (n,), generator=generator) if label is None else torch.full((n,), label)
    images = torch.nn.functional.normalize(torch.randn(n, D, generator=generator, dtype=torch.float64), dim=-1)
    texts = torch.nn.functional.normalize(torch.randn(C, D, generator=generator, dtype=torch.float64), dim=-1)
    return Pool(logits, labels, images, texts)


def gradients(pool: Pool) -> list[np.ndarray]:
    """g_i = [p_i − y_i ; (p_i − y_i) ⊗ v_i], written out."""
    rows = []
    for logits, label, v in zip(pool.logits.numpy(), pool.labels.tolist(), pool.image_features.numpy(), strict=True):
        p = np.exp(logits) / np.exp(logits).sum()
        error = p - np.eye(C)[label]
        rows.append(np.concatenate([error, np.outer(error, v).ravel()]))
    return rows


def mixed(pool: Pool) -> np.ndarray:
    v, t = pool.image_features.numpy(), pool.text_features.numpy()
    return np.stack([0.5 * v[i] + 0.5 * t[y] for i, y in enumerate(pool.labels.tolist())])


def probabilities(pool: Pool) -> np.ndarray:
    exponents = np.exp(pool.logits.numpy())
    return exponents / exponents.sum(1, keepdims=True)


def test_uncertainty_scores():
    pool = pool_of(0)
    for i, p in enumerate(probabilities(pool)):
        first, second = sorted(p)[-1], sorted(p)[-2]
        assert margin(pool)[i].item() == pytest.approx(first - second)
        assert confidence(pool)[i].item() == pytest.approx(first)
        assert entropy(pool)[i].item() == pytest.approx(-sum(x * math.log(x) for x in p))


def test_grand_is_the_norm_of_the_last_layers_gradient():
    pool = pool_of(1)
    assert grand(pool).tolist() == pytest.approx([np.linalg.norm(g) for g in gradients(pool)])


def test_gradient_of_the_formula_is_that_of_cross_entropy():
    pool = pool_of(2, n=3)
    bias, weight = torch.zeros(C, dtype=torch.float64), torch.zeros(C, D, dtype=torch.float64)
    bias.requires_grad_()
    weight.requires_grad_()
    for i, expected in enumerate(gradients(pool)):
        logits = pool.logits[i] + bias + weight @ pool.image_features[i]
        found = torch.autograd.grad(torch.nn.functional.cross_entropy(logits, pool.labels[i]), (bias, weight))
        np.testing.assert_allclose(torch.cat([found[0], found[1].flatten()]).numpy(), expected, atol=1e-12)


def test_products_of_gradients_need_no_gradients():
    pool, other = pool_of(3), pool_of(4, n=5)
    expected = [[g @ h for h in gradients(other)] for g in gradients(pool)]
    np.testing.assert_allclose(pool.gradient_products(other).numpy(), expected, atol=1e-12)


def test_forgetting_counts_right_to_wrong():
    correct = torch.tensor([[1, 0, 1, 0], [0, 0, 1, 1], [1, 0, 1, 0], [0, 1, 1, 1]], dtype=torch.bool)
    by_hand = [sum(before and not after for before, after in pairwise(column)) for column in correct.T.tolist()]
    assert forgetting(correct).tolist() == by_hand == [2, 0, 0, 1]
    with pytest.raises(ValueError, match="at least two, got 1"):
        forgetting(correct[:1])


@pytest.mark.parametrize("neighbours", [3, 10])
def test_cal_is_the_divergence_from_the_nearest(neighbours):
    pool = pool_of(5)
    p, f = probabilities(pool), mixed(pool)
    for i in range(N):
        near = sorted((j for j in range(N) if j != i), key=lambda j: np.linalg.norm(f[i] - f[j]))[:neighbours]
        divergences = [sum(p[i] * np.log(p[i] / p[j])) + sum(p[j] * np.log(p[j] / p[i])) for j in near]
        assert cal(pool, neighbours)[i].item() == pytest.approx(np.mean(divergences))


def greedily(n: int, b: int, gain) -> list[int]:
    """The plain greedy algorithm: `gain(chosen, x)`, first of the largest."""
    chosen: list[int] = []
    for _ in range(b):
        chosen.append(max((x for x in range(n) if x not in chosen), key=lambda x: gain(chosen, x)))
    return chosen


@pytest.mark.parametrize("farthest", [False, True])
def test_herding(farthest):
    f = mixed(pool_of(6))
    mean = f.mean(0)

    def distance(chosen, x):
        return np.linalg.norm((len(chosen) + 1) * mean - sum((f[s] for s in chosen), np.zeros(D)) - f[x])

    sign = 1 if farthest else -1
    expected = greedily(N, 7, lambda chosen, x: sign * distance(chosen, x))
    assert herding(torch.tensor(f), 7, farthest=farthest) == expected
    drift = np.linalg.norm(f[herding(torch.tensor(f), 7)].mean(0) - mean)
    assert drift < np.linalg.norm(f[herding(torch.tensor(f), 7, farthest=True)].mean(0) - mean)


def test_k_center():
    f = mixed(pool_of(7))
    chosen = [4]
    while len(chosen) < 6:
        chosen.append(max(range(N), key=lambda x: min(np.linalg.norm(f[x] - f[s]) for s in chosen)))
    assert k_center(torch.tensor(f), 6, 4) == chosen
    assert sorted(k_center(torch.zeros(3, 2), 3, 1)) == [0, 1, 2]


def kernel_by_hand(pool: Pool) -> np.ndarray:
    g = gradients(pool)
    return np.array([[0.5 + 0.5 * a @ b / (np.linalg.norm(a) * np.linalg.norm(b)) for b in g] for a in g])


def test_kernel_of_gradients():
    pool = pool_of(8)
    np.testing.assert_allclose(gradient_kernel(pool).numpy(), kernel_by_hand(pool), atol=1e-12)


@pytest.mark.parametrize("weight", [1.0, 0.3])
def test_graph_cut(weight):
    k = kernel_by_hand(pool_of(9))
    expected = greedily(N, 6, lambda chosen, x: weight * k[x].sum() - 2 * sum(k[x, s] for s in chosen))
    assert graph_cut(torch.tensor(k), 6, weight) == expected


def test_facility_location():
    k = kernel_by_hand(pool_of(10))

    def gain(chosen, x):
        return sum(max(0.0, k[i, x] - max((k[i, s] for s in chosen), default=0.0)) for i in range(N))

    assert facility_location(torch.tensor(k), 6) == greedily(N, 6, gain)


def test_log_det():
    k = kernel_by_hand(pool_of(11))

    def gain(chosen, x):
        rows = [*chosen, x]
        return np.linalg.slogdet(k[np.ix_(rows, rows)])[1]

    assert log_det(torch.tensor(k), 6) == greedily(N, 6, gain)


def test_craig_and_how_many_each_image_stands_for():
    pool = pool_of(12)
    g = gradients(pool)
    distance = np.array([[np.linalg.norm(a - b) for b in g] for a in g])
    similarity = distance.max() - distance

    def gain(chosen, x):
        return sum(max(0.0, similarity[i, x] - max((similarity[i, s] for s in chosen), default=0.0)) for i in range(N))

    chosen, weights = craig(pool, 5)
    assert chosen == greedily(N, 5, gain)
    nearest = [min(range(5), key=lambda s: distance[i, chosen[s]]) for i in range(N)]
    assert weights == [nearest.count(s) for s in range(5)]
    assert sum(weights) == N


def test_glister_takes_the_step_it_chose():
    pool, val = pool_of(13), pool_of(14, n=9)
    g, step = gradients(pool), 0.4

    def gain(chosen, x):
        bias = -step * sum((g[s][:C] for s in chosen), np.zeros(C))
        weight = -step * sum((g[s][C:].reshape(C, D) for s in chosen), np.zeros((C, D)))
        moved = val.logits.numpy() + bias + val.image_features.numpy() @ weight.T
        after = Pool(torch.tensor(moved), val.labels, val.image_features, val.text_features)
        return g[x] @ np.mean(gradients(after), axis=0)

    assert glister(pool, 5, val, step) == greedily(N, 5, gain)


def test_uniform_replays_the_released_draws():
    labels = np.array([2, 0, 1, 1, 0, 2, 2, 0, 1, 2, 0, 1, 3])
    np.random.seed(7)  # noqa: NPY002  the released code's generator
    expected = []
    for c in range(4):
        rows = np.arange(len(labels))[labels == c]
        expected += np.random.choice(rows, round(0.5 * len(rows)), replace=False).tolist()  # noqa: NPY002
    pool = pool_of(15, n=len(labels))
    pool = Pool(pool.logits, torch.tensor(labels), pool.image_features, pool.text_features)
    assert select("uniform", pool, 0.5, seed=7) == expected


CORRECT = torch.rand(5, N, generator=torch.Generator().manual_seed(1)) > 0.5


@pytest.mark.parametrize("method", SELECTIONS)
@pytest.mark.parametrize("fraction", [0.1, 0.25, 0.5, 1.0])
def test_every_method_keeps_its_share_of_each_class(method, fraction):
    pool = pool_of(16, n=60)
    correct = torch.rand(4, 60, generator=torch.Generator().manual_seed(0)) > 0.5
    kept = select(method, pool, fraction, seed=2, correct=correct)
    assert len(set(kept)) == len(kept)
    labels = pool.labels.tolist()
    for c in range(C):
        assert sum(labels[i] == c for i in kept) == round(fraction * labels.count(c))
    assert kept == select(method, pool, fraction, seed=2, correct=correct)


def test_scores_are_kept_the_right_way_round():
    pool = pool_of(17, label=2)
    p = probabilities(pool)
    best = {
        "margin": min(range(N), key=lambda i: sorted(p[i])[-1] - sorted(p[i])[-2]),
        "least_confidence": min(range(N), key=lambda i: p[i].max()),
        "entropy": max(range(N), key=lambda i: -(p[i] * np.log(p[i])).sum()),
        "grand": max(range(N), key=lambda i: np.linalg.norm(gradients(pool)[i])),
        "cal": int(cal(pool).argmax()),
        "forgetting": int(forgetting(CORRECT).argmax()),
    }
    for method, first in best.items():
        assert select(method, pool, 1.4 / N, correct=CORRECT) == [first], method
    assert select("cal", pool, 1.4 / N, parity=True) == [int(cal(pool).argmin())]
    assert select("herding", pool, 3 / N, parity=True) == herding(pool.mixed, 3, farthest=True)
    assert largest(torch.tensor([1.0, 3.0, 3.0]), 2) == [1, 2]


def test_validation_images_are_those_of_the_class():
    pool, val = pool_of(18, label=1), pool_of(19, n=30)
    of_class = val.at((val.labels == 1).nonzero().flatten())
    assert select("glister", pool, 4 / N, val=val) == glister(pool, 4, of_class)
    without = val.at((val.labels != 1).nonzero().flatten())
    assert select("glister", pool, 4 / N, val=without) == glister(pool, 4, pool)


def test_rounding_is_half_to_even():
    assert [budget(n, 0.5) for n in (1, 3, 5, 7)] == [0, 2, 2, 4]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("herd", 0.5), "expected one of uniform, margin"),
        (("uniform", 0), "above 0 and at most 1, got 0"),
        (("uniform", 1.2), "above 0 and at most 1, got 1.2"),
        (("entropy", 0.001), "rounds to nothing; the largest has"),
        (("forgetting", 0.5), "needs `correct`"),
    ],
)
def test_wrong_requests_get_a_sentence(arguments, sentence):
    with pytest.raises(ValueError, match=sentence):
        select(arguments[0], pool_of(20), arguments[1])


def test_shapes_that_do_not_fit_get_a_sentence():
    pool = pool_of(21)
    with pytest.raises(ValueError, match=r"logits \(17, 4\) need labels \(17,\)"):
        Pool(pool.logits, pool.labels[:3], pool.image_features, pool.text_features)
    with pytest.raises(ValueError, match="between 0 and 3"):
        Pool(pool.logits, pool.labels + 9, pool.image_features, pool.text_features)
