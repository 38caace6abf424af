"""Features of training images as keys of a cache, each of which votes for its own class."""

from __future__ import annotations

from torch import Tensor

from cliptune.clip.towers.products import learned_linear


def nearness(feature: Tensor, keys: Tensor, beta: Tensor) -> Tensor:
    """exp(−β (1 − f kᵀ)) of features (…, D) and keys (M, D), (…, M).

    As exp(β f · k − β), in place: a batch of 256 by 16,000 keys is 16 MB, and passes over it cost as much as products.
    """
    flat = learned_linear((beta * feature).flatten(0, -2), keys)
    return flat.sub_(beta).exp_().view(*feature.shape[:-1], len(keys))


def by_class(near: Tensor, labels: Tensor, classes: int) -> Tensor:
    """Sums of (…, M) over the keys of each class, (…, C): what a product with one-hot labels (M, C) gives.

    That product would cost more than all others together: twice those with the keys, at 1,000 classes and D = 512. On
    a card it is taken nevertheless, because sums by index are not added up in the same order there every time.
    """
    if near.is_cuda:
        return near @ near.new_zeros(len(labels), classes).scatter_(1, labels[:, None], 1)
    return near.new_zeros(*near.shape[:-1], classes).index_add(-1, labels, near)
