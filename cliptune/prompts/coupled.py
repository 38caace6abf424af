"""Text tokens that also speak to the image tower, through a map per layer."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from cliptune.clip.ports import Ports, TowerPorts
from cliptune.params import FullRank, Parameterisation
from cliptune.prompts.base import Prompt


class CoupledTokens(Prompt):
    """Text tokens P_i at blocks 0 … J−1 and image tokens F_i(P_i) at the same depth.

    Args:
        starts: J matrices (n, d_text).
        maps: J linear maps d_text → d_image, applied row by row.
        param: what a text matrix is; image tokens come from the same sample of it.
    Source: MaPLe (arXiv:2210.03117, Sec. 3.2.3).
    """

    map_names = ("maps",)

    def __init__(self, starts: Sequence[Tensor], maps: Sequence[nn.Linear], param: Parameterisation = FullRank) -> None:
        super().__init__()
        if len(starts) != len(maps):
            raise ValueError(f"CoupledTokens: one map per layer is needed, got {len(starts)} layers, {len(maps)} maps.")
        self.layers = nn.ModuleList([param(start) for start in starts])
        self.maps = nn.ModuleList(maps)

    def forward(self, seen: bool = True) -> Ports:
        text = {i: layer() for i, layer in enumerate(self.layers)}
        image = {i: self.maps[i](tokens) for i, tokens in text.items()}
        return Ports(text=TowerPorts(text), image=TowerPorts(image))
