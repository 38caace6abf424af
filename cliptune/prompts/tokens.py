"""Prompt tokens in one tower, shallow or deep."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from torch import Tensor, nn

from cliptune.clip.ports import Ports, TowerPorts
from cliptune.params import FullRank, Parameterisation
from cliptune.prompts.base import Prompt


class NoPrompt(Prompt):
    """Nothing enters: the frozen CLIP."""

    def forward(self, seen: bool = True) -> Ports:
        return Ports()


class DeepTokens(Prompt):
    """Independent tokens at the inputs of blocks 0 … J−1 of one tower.

    Args:
        tower: "text" or "image".
        starts: J matrices, (n, d) shared by all classes, or for text (C, n, d) class-specific.
        param: what a learnable matrix is.
    Source: context of CoOp (arXiv:2109.01134) for J = 1 in the text tower; VPT-deep (arXiv:2203.12119).
    """

    def __init__(
        self, tower: Literal["text", "image"], starts: Sequence[Tensor], param: Parameterisation = FullRank
    ) -> None:
        super().__init__()
        self.tower = tower
        self.layers = nn.ModuleList([param(start) for start in starts])
        self.class_specific = any(start.ndim > 2 for start in starts)

    def forward(self, seen: bool = True) -> Ports:
        ports = TowerPorts({i: layer() for i, layer in enumerate(self.layers)})
        return Ports(text=ports) if self.tower == "text" else Ports(image=ports)
