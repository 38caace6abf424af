"""The loss of the CoOp family."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor


def cross_entropy(out: Any, batch: Any, progress: float) -> tuple[Tensor, dict[str, Tensor]]:
    """Mean over the batch of −log softmax(logits)[label]; logits (B, C), labels (B,)."""
    loss = F.cross_entropy(out.logits, batch.labels)
    return loss, {"ce": loss}
