"""Text tokens that are shifted by what the image looks like."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import replace

from torch import Tensor, nn

from cliptune.clip.ports import Ports, TowerPorts
from cliptune.params import FullRank, Parameterisation
from cliptune.prompts.base import Prompt


class ConditionalTokens(Prompt):
    """Context v_1 … v_n whose every token is moved by one vector of the image: v_m(x) = v_m + h(f̂(x)).

    Args:
        start: (n, d_text).
        embed: D, size of the unit image feature that the meta-net h reads.
        hidden: of h, Linear(D → hidden), ReLU, Linear(hidden → d_text).
        param: what the context is.

    The shift is the same for all tokens of an image; with several views it is the mean of their shifts.
    Source: CoCoOp (arXiv:2203.05557, Sec. 3.2).
    """

    def __init__(self, start: Tensor, embed: int, hidden: int, param: Parameterisation = FullRank) -> None:
        super().__init__()
        self.layers = nn.ModuleList([param(start)])
        self.meta = nn.Sequential(
            OrderedDict(linear1=nn.Linear(embed, hidden), relu=nn.ReLU(), linear2=nn.Linear(hidden, start.shape[-1]))
        )

    def forward(self, seen: bool = True) -> Ports:
        return Ports(text=TowerPorts({0: self.layers[0]()}), condition=self._shifted)

    def _shifted(self, text: TowerPorts, image_features: Tensor) -> TowerPorts:
        shift = self.meta(image_features).mean(dim=1)  # (B, d)
        # (B, 1, n, d): per image, shared by all classes.
        return replace(text, tokens={**text.tokens, 0: text.tokens[0] + shift[:, None, None]})
