"""RLP: every prompt matrix of a host is a frozen start plus a product of low rank.  (arXiv:2312.10813)"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal, cast

import torch
from torch import nn

from cliptune.params import FullRank, LowRank
from cliptune.params.low_rank import STARTS, STD, Start
from cliptune.prompts import DeepTokens, Prompt
from cliptune.recipe import Recipe

PAPER = "2312.10813"
ENTERS = "the host's matrices"
# After everything that adds parameters, before what mixes matrices or adds losses.
ORDER = 20


@dataclass(frozen=True)
class Config:
    """Options.

    Args:
        rlp_rank: r of every matrix.
        rlp_dropout: on the product, in training; in [0, 1). The paper does not state its value.
        rlp_start: of the factors, "gaussian" (as in the paper) or "zero" (the first step sees the host's start
            exactly). Matrices that start at zero, biases, always take "zero". "svd", for rlp_frozen=False, lets the
            product begin as the matrix of its rank that is nearest to the host's start.
        rlp_frozen: False leaves out the frozen start, so that the matrix is the product alone and has the rank itself:
            the ablation that shows what the frozen branch does.
        rlp_shared: one right factor for all matrices of one width that stand together (the layers of a tower), and
            for all classes of a class-specific context: r (J n + d) values in place of J r (n + d).
        rlp_lr_scale: factor on the learning rate of the factors. Both are small at first, so that the matrix moves
            several times more slowly than a full one at the same rate.
    """

    rlp_rank: int = 1
    rlp_dropout: float = 0.1
    rlp_start: Literal["gaussian", "zero", "svd"] = "gaussian"
    rlp_frozen: bool = True
    rlp_shared: bool = False
    rlp_lr_scale: float = 1.0


def build(recipe: Recipe, config: Config = Config()) -> Recipe:
    if not config.rlp_lr_scale > 0 or not math.isfinite(config.rlp_lr_scale):
        raise ValueError(f"rlp: rlp_lr_scale must be above 0, got {config.rlp_lr_scale}.")
    if config.rlp_rank < 1:
        raise ValueError(f"rlp: rlp_rank must be at least 1, got {config.rlp_rank}.")
    _check_start(config)
    prompt = recipe.adapter.prompt
    groups = list(_matrices(prompt))
    if not groups:
        raise ValueError(
            "rlp: this host has no prompt matrix that could be of low rank. "
            "Use it on a host that learns prompt tokens or biases, such as coop, maple or bias_tuning."
        )
    if any(isinstance(part, DeepTokens) and part.tower == "image" for part in prompt.modules()):
        recipe.remarks += ("little benefit is reported on image tokens",)
    for owner, names in groups:
        shared: dict[int, nn.Parameter] = {}
        for name in names:
            start = cast(FullRank, owner.get_submodule(name)).value
            moved = bool(start.detach().abs().max() > 0)
            factors: Start = "zero" if config.rlp_start == "zero" or not moved else "gaussian"
            right = None
            if config.rlp_shared:
                width = start.shape[-1]
                if width not in shared:
                    drawn = torch.randn(config.rlp_rank, width) if factors == "gaussian" else torch.zeros(1, width)
                    shared[width] = nn.Parameter(STD * drawn.expand(config.rlp_rank, -1).clone())
                right = shared[width]
            frozen = start if config.rlp_frozen else torch.zeros_like(start)
            matrix = LowRank(frozen, config.rlp_rank, config.rlp_dropout, factors, right)
            if config.rlp_start == "svd" and moved:
                matrix.approach(start)
            setattr(owner, name, matrix)
    factors_of = {id(p) for module in prompt.modules() if isinstance(module, LowRank) for p in module.parameters()}
    if any(p.requires_grad and id(p) not in factors_of for p in prompt.parameters()):
        recipe.remarks += ("maps and networks of the host stay as they are",)
    if config.rlp_lr_scale != 1:
        _scale_rates(recipe, config.rlp_lr_scale)
    return recipe


def _check_start(config: Config) -> None:
    if config.rlp_start not in (*STARTS, "svd"):
        raise ValueError(f"rlp: rlp_start must be one of {', '.join(STARTS)}, svd, got {config.rlp_start!r}.")
    if config.rlp_start != "svd":
        return
    if config.rlp_frozen:
        raise ValueError(
            "rlp: rlp_start='svd' is near the host's start already, and the frozen branch would add it once more. "
            "Use it with rlp_frozen=False."
        )
    if config.rlp_shared:
        raise ValueError(
            "rlp: rlp_start='svd' takes each matrix apart by itself, and rlp_shared has one factor for several. "
            "Use one or the other."
        )


def _matrices(prompt: Prompt) -> Iterator[tuple[nn.Module, list[str]]]:
    """Modules with the names of their full-rank matrices."""
    for owner in list(prompt.modules()):
        names = [name for name, child in owner.named_children() if isinstance(child, FullRank)]
        if names:
            yield owner, names


def _scale_rates(recipe: Recipe, scale: float) -> None:
    names = [
        f"{name}.{factor}"
        for name, module in recipe.adapter.named_modules()
        if isinstance(module, LowRank)
        for factor in ("left", "right")
    ]
    for stage in recipe.stages:
        if stage.optimiser is not None:
            own = {name: scale * stage.optimiser.factor(name) for name in names}
            stage.optimiser = replace(stage.optimiser, factors={**own, **stage.optimiser.factors})


def merge(prompt: Prompt) -> Prompt:
    """Replace low-rank matrices by the full ones they stand for, in place: same answers, plain to export."""
    for owner in list(prompt.modules()):
        for name, child in list(owner.named_children()):
            if isinstance(child, LowRank):
                setattr(owner, name, FullRank(child.merged()))
    return prompt
