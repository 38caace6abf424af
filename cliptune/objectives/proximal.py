"""Cross-entropy, and a price on how far a map moved."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor


def proximal(out: Any, batch: Any, progress: float, weight: float | None) -> tuple[Tensor, dict[str, Tensor]]:
    """CE + λ ‖W − W_0‖²_F, the sum over all entries of the map.

    Args: weight: λ ≥ 0; None for 1/N, with N training images per class.

    `out.extras["moved"]` has `square`, ‖W − W_0‖²_F, and `per_class`, N.
    Source: ProLIP (arXiv:2410.05270; methods/ProLIP.py of its release).
    """
    moved = out.extras["moved"]
    parts = {
        "ce": F.cross_entropy(out.logits, batch.labels),
        "distance": (1 / moved.per_class if weight is None else weight) * moved.square,
    }
    return sum(parts.values(), start=out.logits.new_zeros(())), parts
