"""Selection rules that give each image a number; letters as in `pool`."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from cliptune.data.selection.pool import Pool


def largest(scores: Tensor, b: int) -> list[int]:
    """Positions of the b largest scores, largest first, of equal ones the earlier image first."""
    return torch.sort(scores, descending=True, stable=True).indices[:b].tolist()


def margin(pool: Pool) -> Tensor:
    """(N,) p₍₁₎ − p₍₂₎; small means undecided."""
    top = pool.probabilities.topk(2, -1).values
    return top[:, 0] - top[:, 1]


def confidence(pool: Pool) -> Tensor:
    """(N,) largest p; small means unsure."""
    return pool.probabilities.amax(-1)


def entropy(pool: Pool) -> Tensor:
    """(N,) −Σ p ln p in nats; large means unsure."""
    return torch.special.entr(pool.probabilities).sum(-1)


def grand(pool: Pool) -> Tensor:
    """(N,) ‖g‖ = ‖p − y‖ √(1 + ‖v‖²).  (GraNd, arXiv:2107.07075)"""
    return pool.errors.norm(dim=-1) * (1 + pool.image_features.double().square().sum(-1)).sqrt()


def forgetting(correct: Tensor) -> Tensor:
    """(N,) times an image went from right to wrong between epochs, from `correct` (E, N).  (arXiv:1812.05159)

    Raises: ValueError with fewer than two epochs, where nothing can be forgotten.
    """
    if len(correct) < 2:
        raise ValueError(
            f"Selection: forgetting compares training epochs, so it needs at least two, got {len(correct)}."
        )
    return (correct[:-1].bool() & ~correct[1:].bool()).sum(0)


def cal(pool: Pool, neighbours: int = 10) -> Tensor:
    """(N,) mean symmetric Kullback-Leibler divergence to the nearest neighbours in f, itself left out; large means that
    the model contradicts itself among similar images.  (arXiv:2109.03764)
    """
    p = pool.probabilities
    log = torch.log_softmax(pool.logits.double(), -1)
    # KL(i, j) + KL(j, i) = Σ (p_i − p_j)(ln p_i − ln p_j)
    own = (p * log).sum(-1)
    cross = p @ log.T
    divergence = own[:, None] + own[None, :] - cross - cross.T
    distance = torch.cdist(pool.mixed, pool.mixed).fill_diagonal_(math.inf)
    k = min(neighbours, len(p) - 1)
    if k < 1:
        return torch.zeros(len(p), dtype=torch.float64)
    return divergence.gather(1, distance.topk(k, largest=False).indices).mean(-1)
