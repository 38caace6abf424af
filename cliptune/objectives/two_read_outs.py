"""The loss of MMRL: both read-outs learn the labels, and the first stays near the frozen CLIP."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor


def two_read_outs(
    out: Any, batch: Any, progress: float, alpha: float, weight: float
) -> tuple[Tensor, dict[str, Tensor]]:
    """α CE(first) + (1 − α) CE(second) + λ (1 − mean cos(f, f_0)) + λ (1 − mean cos(t, t_0)).

    f and t are the features of the first read-out and of the class texts, f_0 and t_0 those of the frozen CLIP. One
    text per class.

    Args: alpha: α. weight: λ.
    Source: MMRL (arXiv:2503.08497), as released; the same in MMRL++ (arXiv:2505.10088).
    """
    frozen = out.reference
    first, second = (F.cross_entropy(out.similarity[:, view], batch.labels) for view in (0, 1))
    parts = {
        "ce": alpha * first + (1 - alpha) * second,
        "image": weight * (1 - (out.image_features[:, 0] * frozen.image_features[:, 0]).sum(dim=-1).mean()),
        "text": weight * (1 - (out.text_features * frozen.text_features).sum(dim=-1).mean()),
    }
    return sum(parts.values(), start=out.logits.new_zeros(())), parts
