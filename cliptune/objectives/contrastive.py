"""The loss that tells images of mutually hard classes apart."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def symmetric_contrastive(scores: Tensor, labels: Tensor, duplicates: str = "mask") -> Tensor:
    """½ [CE(S, diagonal) + CE(Sᵀ, diagonal)] over N image–class pairs.

    Args:
        scores: S (N, N), scaled similarity of image a and the text of pair b's class.
        labels: (N,) class of every pair.
        duplicates: of one class off the diagonal: "mask" takes them out of both softmaxes; "keep" lets them be
            negatives of each other, as released, although they are right answers.
    Source: DPC (arXiv:2503.13443).
    """
    if duplicates == "mask":
        equal = labels[:, None] == labels
        scores = scores.masked_fill(equal & ~torch.eye(len(labels), dtype=torch.bool, device=equal.device), -torch.inf)
    own = torch.arange(len(labels), device=labels.device)
    return (F.cross_entropy(scores, own) + F.cross_entropy(scores.mT, own)) / 2


def hard_negative_contrast(
    out: Any, batch: Any, progress: float, duplicates: str = "mask", host: Any = None, plain: bool = False
) -> tuple[Tensor, dict[str, Tensor]]:
    """L_CL over the pairs of a batch that a sampler has filled with hard negatives.

    All classes' texts are encoded and the columns of the pairs' classes taken, which equals encoding those alone.

    Args:
        host: objective whose regularisers are kept: its loss without the part "ce", which L_CL replaces. If it has
            no such part (distillation), L_CL replaces the whole.
        plain: the control: cross-entropy over all classes, of the same batch, in the place of L_CL.
    """
    if plain:
        name, own = "ce", F.cross_entropy(out.logits, batch.labels)
    else:
        name, own = "contrast", symmetric_contrastive(out.logits[:, batch.labels], batch.labels, duplicates)
    if host is None:
        return own, {name: own}
    loss, parts = host(out, batch, progress)
    if "ce" not in parts:
        return own, {name: own}
    kept = {part: value for part, value in parts.items() if part != "ce"}
    return loss - parts["ce"] + own, {**kept, name: own}
