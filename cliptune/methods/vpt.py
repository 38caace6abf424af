"""VPT: tokens in the image tower, shallow or deep, before fixed sentences.  (arXiv:2203.12119)"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from cliptune.adapter import Adapter
from cliptune.clip.model import CLIP
from cliptune.heads import MeanHead
from cliptune.objectives import WeightedLoss, cross_entropy
from cliptune.prompts import DeepTokens
from cliptune.prompts.depth import check_tokens, resolve_depth
from cliptune.recipe import OptimiserConfig, Recipe, Stage
from cliptune.registry.released_names import deep_token_count, image_token_name
from cliptune.texts import ClassSet, TemplatePhrasing

PAPER = "2203.12119"
ENTERS = "image.tokens"
EXACT = "gradients of vpt in bfloat16 were up to 2.1 % off in norm"


@dataclass(frozen=True)
class Config:
    """Options.

    Args:
        n_ctx: tokens per prompted block.
        depth: prompted blocks; None for all of them (deep), 1 is shallow.
        sentence: template of the class texts, the same for all data sets, as released.
        lr, batch_size, epochs: of SGD with the field's schedule.
    """

    n_ctx: int = 8
    depth: int | None = None
    sentence: str = "a photo of a {}."
    lr: float = 2.5e-3
    batch_size: int = 4
    epochs: int = 5


def build(clip: CLIP, classes: ClassSet, config: Config = Config()) -> Recipe:
    check_tokens("vpt", "n_ctx", config.n_ctx)
    depth = resolve_depth("vpt", "image", clip.image, config.depth)
    starts = [0.02 * torch.randn(config.n_ctx, clip.image.width) for _ in range(depth)]
    adapter = Adapter(clip, classes, TemplatePhrasing((config.sentence,)), DeepTokens("image", starts), MeanHead())
    stage = Stage(WeightedLoss(cross_entropy), config.epochs, config.batch_size, OptimiserConfig(lr=config.lr))
    return Recipe(adapter, [stage], exact=EXACT)


def published_name(name: str) -> str:
    """Name of a learnable in the released code's state dict."""
    return image_token_name(int(name.split(".")[2]))


def published_options(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """Options that a released state dict implies."""
    return {"n_ctx": len(tensors["image_encoder.VPT"]), "depth": deep_token_count(tensors, "image_encoder")}
