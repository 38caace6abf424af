"""The losses of PromptSRC: prompted features and answers stay near those of the frozen CLIP."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor


def self_regularised(
    out: Any, batch: Any, progress: float, text: float, image: float, logits: float
) -> tuple[Tensor, dict[str, Tensor]]:
    """CE + text · |t̂ − ŵ| + image · |f̂ − f̂_zs| + logits · KL(zero-shot ‖ prompted).

    Args:
        text, image: weights of the mean absolute differences of unit features, over all C·D and B·D elements.
        logits: weight of the divergence, which is divided by B·C as in the released code (so it weighs 1/C of the
            usual mean over the batch).
    Returns: the loss, and its terms as they enter the sum.
    Source: arXiv:2307.06948, Sec. 3.1, Eq. 3 to 6.
    """
    frozen = out.reference
    parts = {
        "ce": F.cross_entropy(out.logits, batch.labels),
        "text": text * F.l1_loss(out.text_features, frozen.text_features),
        "image": image * (out.image_features - frozen.image_features).abs().mean(),
        "logits": logits * divergence(frozen.logits, out.logits) / out.logits.shape[1],
    }
    return sum(parts.values(), start=out.logits.new_zeros(())), parts


def divergence(teacher: Tensor, student: Tensor, temperature: float = 1.0) -> Tensor:
    """Mean over the batch of KL(softmax(teacher / τ) ‖ softmax(student / τ)); logits (B, C)."""
    learned, taught = ((logits / temperature).log_softmax(dim=-1) for logits in (student, teacher))
    return F.kl_div(learned, taught, reduction="batchmean", log_target=True)
