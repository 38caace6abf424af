"""The loss of KgCoOp: class texts stay near the hand-written ones."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor


def knowledge_guided(
    out: Any, batch: Any, progress: float, weight: float, form: str
) -> tuple[Tensor, dict[str, Tensor]]:
    """CE + weight · L_kg, with unit text features t̂ and unit features ŵ of the hand-written sentences.

    Args:
        form: "paper" for L_kg = mean over classes of ‖t̂ − ŵ‖² (arXiv:2303.13283, Eq. 4); "released" for
            1 − mean cos(t̂, ŵ), which is half of it.
    """
    ce = F.cross_entropy(out.logits, batch.labels)
    learned, reference = out.text_features, out.reference.text_features
    if form == "paper":
        kg = (learned - reference).square().sum(dim=-1).mean()
    else:
        kg = 1 - (learned * reference).sum(dim=-1).mean()
    return ce + weight * kg, {"ce": ce, "kg": kg}
