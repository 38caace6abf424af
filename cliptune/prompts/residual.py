"""A learned vector added to the text of each class."""

from __future__ import annotations

import torch
from torch import Tensor

from cliptune.clip.ports import Ports
from cliptune.params import FullRank, Parameterisation
from cliptune.prompts.base import Prompt


class TextResidual(Prompt):
    """t′ = t + α x at the `text_features` port: t (C, D) the text embeddings before unit norm, x (C, D) learned from 0.

    Args:
        classes: C. width: D.
        alpha: α > 0.
        param: what a learnable matrix is.
    Source: TaskRes (arXiv:2211.10277; trainers/taskres.py of its release).
    """

    class_specific = True
    in_embedding_space = True

    def __init__(self, classes: int, width: int, alpha: float, param: Parameterisation = FullRank) -> None:
        super().__init__()
        if not alpha > 0:
            raise ValueError(f"TextResidual: alpha must be above 0, got {alpha}. Use zeroshot for the texts alone.")
        self.alpha = alpha
        self.residual = param(torch.zeros(classes, width))

    def forward(self, seen: bool = True) -> Ports:
        residual: Tensor = self.alpha * self.residual()  # once per step, so that all see one sample of a dropout

        def add(embedding: Tensor) -> Tensor:
            return embedding + residual

        return Ports(text_features=add)
