"""A small network behind the image tower."""

from __future__ import annotations

import copy
from typing import cast

import torch
from torch import Tensor, nn

from cliptune.clip.ports import Ports
from cliptune.prompts.base import Prompt


class Projector(Prompt):
    """Linear(D → D'), BatchNorm, ReLU, Linear(D' → D') at the `features` port.

    In training the BatchNorm takes the mean and variance of the batch, so batches have at least two views and the
    numbers depend on how a batch is cut; in evaluation it takes the running ones and is affine.

    Args:
        embed: D, of the image tower. target: D', of the features to be matched.
    Raises (forward of the port): ValueError for a single view in training.
    Source: PromptKD (arXiv:2403.02781, Sec. 3.3), with the layers of the released code.
    """

    in_embedding_space = True
    map_names = ("map",)

    def __init__(self, embed: int, target: int) -> None:
        super().__init__()
        self.map = nn.Sequential(nn.Linear(embed, target), nn.BatchNorm1d(target), nn.ReLU(), nn.Linear(target, target))

    def forward(self, seen: bool = True) -> Ports:
        return Ports(features=self.project)

    def project(self, embedding: Tensor) -> Tensor:
        """(B, V, D) → (B, V, D')."""
        rows = embedding.flatten(0, 1)
        if self.training and len(rows) < 2:
            raise ValueError(
                "Projector: in training its BatchNorm compares the images of a batch, and this batch has one. "
                "Use a batch size of at least 2."
            )
        mapped: Tensor = self.map(rows)
        return mapped.view(*embedding.shape[:2], -1)

    @torch.no_grad()
    def folded(self) -> nn.Sequential:
        """Linear, ReLU, Linear: the same in evaluation, with the BatchNorm folded into the first layer."""
        first, last = (cast(nn.Linear, copy.deepcopy(self.map[i])) for i in (0, 3))
        norm = cast(nn.BatchNorm1d, self.map[1])
        mean, variance = cast(Tensor, norm.running_mean), cast(Tensor, norm.running_var)
        scale = norm.weight * (variance + norm.eps).rsqrt()
        first.weight.mul_(scale[:, None])
        first.bias.sub_(mean).mul_(scale).add_(norm.bias)
        return nn.Sequential(first, nn.ReLU(), last)
