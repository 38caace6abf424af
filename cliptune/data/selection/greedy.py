"""Selection rules that add one image after the other; letters as in `pool`, b images are chosen out of N, S so far."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from cliptune.data.selection.pool import Pool


def herding(features: Tensor, b: int, *, farthest: bool = False) -> list[int]:
    """Greedily the images whose running mean stays nearest to the mean μ of all features (N, D): the next is the x that
    minimises ‖(j+1)μ − Σ_{s∈S} f_s − f_x‖.  (arXiv:1206.3244)

    Args:
        farthest: maximise instead, as the released code does.
    """
    mean = features.mean(0)
    chosen: list[int] = []
    total = torch.zeros_like(mean)
    for j in range(b):
        distance = ((j + 1) * mean - total - features).norm(dim=-1)
        distance = -distance if farthest else distance
        distance[chosen] = math.inf
        chosen.append(int(distance.argmin()))
        total = total + features[chosen[-1]]
    return chosen


def k_center(features: Tensor, b: int, first: int) -> list[int]:
    """From `first` on, always the image farthest from the nearest one chosen.  (arXiv:1708.00489)"""
    chosen = [first]
    nearest = (features - features[first]).norm(dim=-1)
    while len(chosen) < b:
        nearest[chosen[-1]] = -1.0  # never twice, also among equal images
        chosen.append(int(nearest.argmax()))
        nearest = torch.minimum(nearest, (features - features[chosen[-1]]).norm(dim=-1))
        nearest[chosen] = -1.0
    return chosen[:b]


def craig(pool: Pool, b: int) -> tuple[list[int], list[int]]:
    """Images whose gradients stand for all: facility location on max‖g − g'‖ − ‖g_i − g_j‖.  (arXiv:1906.01827)

    Returns: positions, and how many images each stands for: the weight that its loss deserves.
    """
    products = pool.gradient_products(pool)
    square = products.diagonal()
    distance = (square[:, None] + square[None, :] - 2 * products).clamp_min(0).sqrt()
    similarity = distance.max() - distance
    chosen = facility_location(similarity, b)
    stands_for = similarity[:, chosen].argmax(-1)
    return chosen, torch.bincount(stands_for, minlength=len(chosen)).tolist()


def glister(pool: Pool, b: int, val: Pool, step: float = 0.1) -> list[int]:
    """Greedily the x with the largest g_x · mean_val g: the gradient step on x that lowers the validation loss
    most; after each choice the validation logits take that step in a first-order model.  (arXiv:2012.10630)

    Args:
        val: validation images.
        step: size of that step on the last layer.
    """
    chosen: list[int] = []
    errors, features = pool.errors, pool.image_features.double()
    val_features, val_logits = val.image_features.double(), val.logits.double()
    target = torch.nn.functional.one_hot(val.labels, val.logits.shape[1])
    for _ in range(b):
        val_errors = val_logits.softmax(-1) - target
        bias, weight = val_errors.mean(0), val_errors.T @ val_features / len(val_errors)  # (C,), (C, D)
        gain = errors @ bias + ((errors @ weight) * features).sum(-1)
        gain[chosen] = -math.inf
        x = int(gain.argmax())
        chosen.append(x)
        val_logits = val_logits - step * errors[x] * (1 + val_features @ features[x])[:, None]
    return chosen


def gradient_kernel(pool: Pool) -> Tensor:
    """(N, N) k = ½ + ½ cos(g_i, g_j), in [0, 1]."""
    products = pool.gradient_products(pool)
    norm = products.diagonal().clamp_min(1e-24).sqrt()
    return 0.5 + 0.5 * products / (norm[:, None] * norm[None, :])


def graph_cut(kernel: Tensor, b: int, weight: float = 1.0) -> list[int]:
    """Greedily the x with the largest λ Σ_{i∈V} k(x, i) − 2 Σ_{s∈S} k(x, s): like all, unlike each other."""
    gain = weight * kernel.sum(-1)
    chosen: list[int] = []
    for _ in range(b):
        chosen.append(int(gain.argmax()))
        gain = gain - 2 * kernel[:, chosen[-1]]
        gain[chosen] = -math.inf
    return chosen


def facility_location(kernel: Tensor, b: int) -> list[int]:
    """Greedily the x with the largest Σ_i max(0, k(i, x) − max_{s∈S} k(i, s)): every image near a chosen one."""
    covered = torch.zeros(len(kernel), dtype=kernel.dtype)
    chosen: list[int] = []
    for _ in range(b):
        gain = (kernel - covered[:, None]).clamp_min(0).sum(0)
        gain[chosen] = -math.inf
        chosen.append(int(gain.argmax()))
        covered = torch.maximum(covered, kernel[:, chosen[-1]])
    return chosen


def log_det(kernel: Tensor, b: int) -> list[int]:
    """Greedily the x that makes ln det K_S largest, by growing a Cholesky factor."""
    left = kernel.diagonal().clone()  # what the chosen ones leave unexplained; its logarithm is the gain
    factor = torch.zeros(len(kernel), 0, dtype=kernel.dtype)
    chosen: list[int] = []
    for _ in range(b):
        gain = left.clone()
        gain[chosen] = -math.inf
        x = int(gain.argmax())
        chosen.append(x)
        column = (kernel[:, x] - factor @ factor[x]) / left[x].clamp_min(1e-12).sqrt()
        factor = torch.cat([factor, column[:, None]], 1)
        left = left - column.square()
    return chosen
