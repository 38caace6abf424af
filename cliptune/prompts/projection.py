"""The map behind a tower, learned from where it stands."""

from __future__ import annotations

from torch import Tensor, nn

from cliptune.clip.ports import Ports, TowerPorts
from cliptune.params import FullRank, Parameterisation
from cliptune.prompts.base import Prompt


class TunedProjection(Prompt):
    """The image tower's last map W (d, D) learns from the frozen W_0: e = x W, x the row that is read out.

    The map itself is what is learned and kept, as in the releases; W − W_0 is what enters the tower, so that before
    training it is the zero-shot CLIP exactly.

    Args:
        frozen: W_0.
        param: what a learnable matrix is.
    Source: ProLIP (arXiv:2410.05270).
    """

    frozen: Tensor

    def __init__(self, frozen: Tensor, param: Parameterisation = FullRank) -> None:
        super().__init__()
        self.register_buffer("frozen", frozen.detach().clone().float(), persistent=False)
        self.map: nn.Module = param(self.frozen)

    def forward(self, seen: bool = True) -> Ports:
        return Ports(image=TowerPorts(projection={"first": self.map() - self.frozen}))
