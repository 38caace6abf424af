"""The gradient of cross-entropy written out, for heads that are trained on features which stay as they are."""

from __future__ import annotations

import torch
from torch import Tensor

# Multiplications up to which float64 costs less than half a minute of one core.
FEW = 2**38


def working_dtype(multiplications: int, given: torch.dtype) -> torch.dtype:
    """float64, or float32 where a training multiplies so often that the difference is a matter of minutes.

    A step in float32 takes half the time of one in float64. Trainings from the texts end up to 1e-5 of the largest
    weight apart, which is less than what another order of the images changes.

    Args:
        multiplications: of features with weights, in all steps: passes · images · D · C.
        given: type of the head's own values; what is float64 stays so.
    """
    return torch.float32 if multiplications > FEW and given != torch.float64 else torch.float64


def errors(logits: Tensor, labels: Tensor) -> Tensor:
    """softmax − one-hot, (n, C): the gradient of −log softmax(logits)[label] in the logits, image by image."""
    found = logits.softmax(dim=1)
    found[torch.arange(len(labels)), labels] -= 1
    return found
