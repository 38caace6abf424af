"""MaPLe: deep text tokens, and image tokens that are a linear map of them.  (arXiv:2210.03117)"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from cliptune.adapter import Adapter
from cliptune.clip.model import CLIP
from cliptune.heads import MeanHead
from cliptune.objectives import WeightedLoss, cross_entropy
from cliptune.prompts import CoupledTokens
from cliptune.prompts.depth import resolve_depth, shallower
from cliptune.recipe import OptimiserConfig, Recipe, Stage
from cliptune.texts import ClassSet, ContextPhrasing
from cliptune.texts.phrasing import words_for

PAPER = "2210.03117"
ENTERS = "text.tokens, image.tokens = linear(text.tokens)"
PUBLISHED_DEPTH = 9


@dataclass(frozen=True)
class Config:
    """Options.

    Args:
        n_ctx: tokens per prompted block, in both towers.
        depth: prompted blocks; None for the paper's 9, or all blocks of a shallower backbone.
        words: initial words of the first layer, used if n_ctx is at most their number; else N(0, 0.02²). Words
            beyond n_ctx stay in the sentence ("of a" for 2).
        lr, batch_size, epochs: of SGD with the field's schedule.
    """

    n_ctx: int = 2
    depth: int | None = None
    words: str = "a photo of a"
    lr: float = 3.5e-3
    batch_size: int = 4
    epochs: int = 5


def build(clip: CLIP, classes: ClassSet, config: Config = Config()) -> Recipe:
    depths = [
        resolve_depth("maple", name, tower, config.depth, PUBLISHED_DEPTH)
        for name, tower in (("text", clip.text), ("image", clip.image))
    ]
    depth = min(depths)
    words, notes = words_for("maple", config.words, config.n_ctx)
    phrasing = ContextPhrasing(config.n_ctx, words)
    width = clip.text.width
    starts = [phrasing.start(clip), *(0.02 * torch.randn(config.n_ctx, width) for _ in range(depth - 1))]
    first, deeper = nn.Linear(width, clip.image.width), nn.Linear(width, clip.image.width)
    # As released, the deeper maps are copies of one fresh layer, equal at the start.
    maps = [first, *(copy.deepcopy(deeper) for _ in range(depth - 1))]
    adapter = Adapter(clip, classes, phrasing, CoupledTokens(starts, maps), MeanHead())
    stage = Stage(WeightedLoss(cross_entropy), config.epochs, config.batch_size, OptimiserConfig(lr=config.lr))
    notes += shallower("maple", config.depth, depth, PUBLISHED_DEPTH)
    return Recipe(adapter, [stage], notes=notes)


def published_name(name: str) -> str:
    """Name of a learnable in the released code's state dict."""
    _, kind, layer, rest = name.split(".")
    if kind == "layers":
        return "prompt_learner." + ("ctx" if layer == "0" else f"compound_prompts_text.{int(layer) - 1}")
    which = "proj" if layer == "0" else f"compound_prompt_projections.{int(layer) - 1}"
    return f"prompt_learner.{which}.{rest}"


def published_options(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """Options that a released state dict implies."""
    deeper = sum(key.startswith("prompt_learner.compound_prompts_text.") for key in tensors)
    return {"n_ctx": len(tensors["prompt_learner.ctx"]), "depth": 1 + deeper}
