"""Learned tokens in front of attribute words, before the tokens of another prompt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from cliptune.clip.ports import Ports, TowerPorts
from cliptune.params import FullRank, Parameterisation
from cliptune.prompts.base import Prompt


class AttributedTokens(Prompt):
    """The tokens of a host behind those of attributes: at block 0 of the text tower they enter together, (A m + n, d).

    At deeper blocks the host's tokens alone are replaced; those of the attributes stay in the sequence. What depends on
    the image moves the host's tokens alone.

    Args:
        host: a prompt with text tokens at block 0.
        starts: one matrix (m, d) for each of A attributes.
        param: what a learnable matrix is.
    Source: ATPrompt (arXiv:2412.09442; trainers/coop_atp.py, cocoop_atp.py and clip/model_atp.py of its release).
    """

    def __init__(self, host: Prompt, starts: Sequence[Tensor], param: Parameterisation = FullRank) -> None:
        super().__init__()
        self.host = host
        self.attributes = nn.ModuleList([param(start) for start in starts])
        self.class_specific, self.resolution = host.class_specific, host.resolution

    def forward(self, seen: bool = True) -> Ports:
        ports: Ports = self.host(seen)
        own, first, condition = (
            torch.cat([tokens() for tokens in self.attributes]),
            ports.text.tokens[0],
            ports.condition,
        )

        def moved(text: TowerPorts, image_features: Tensor) -> TowerPorts:
            assert condition is not None
            return _behind(own, condition(_with_first(text, first), image_features))

        return replace(ports, text=_behind(own, ports.text), condition=None if condition is None else moved)


def _behind(own: Tensor, text: TowerPorts) -> TowerPorts:
    """The ports with own tokens (A m, d) in front of those at block 0, (*lead, n, d)."""
    first = text.tokens[0]
    return _with_first(text, torch.cat([own.expand(*first.shape[:-2], -1, -1), first], dim=-2))


def _with_first(text: TowerPorts, tokens: Tensor) -> TowerPorts:
    return replace(text, tokens={**text.tokens, 0: tokens})
