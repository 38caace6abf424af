"""IVLP: independent deep tokens in both towers.  (baseline of arXiv:2210.03117 and arXiv:2307.06948)"""

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
from cliptune.prompts import DeepTokens, Together
from cliptune.prompts.depth import check_tokens, resolve_depth
from cliptune.recipe import OptimiserConfig, Recipe, Stage
from cliptune.registry.released_names import deep_token_count, image_token_name, text_token_name
from cliptune.texts import ClassSet, ContextPhrasing
from cliptune.texts.phrasing import words_for

PAPER = "2210.03117"
ENTERS = "text.tokens, image.tokens"


@dataclass(frozen=True)
class Config:
    """Options.

    Args:
        n_text, n_image: tokens per prompted block; n_image 0 prompts the text only.
        depth_text, depth_image: prompted blocks of each tower; None for all.
        words: initial words of the first text layer, used if n_text is at most their number; else N(0, 0.02²).
        lr, batch_size, epochs: of SGD with the field's schedule.
    """

    n_text: int = 2
    n_image: int = 2
    depth_text: int | None = None
    depth_image: int | None = None
    words: str = "a photo of a"
    lr: float = 3.5e-3
    batch_size: int = 4
    epochs: int = 5


def build(clip: CLIP, classes: ClassSet, config: Config = Config()) -> Recipe:
    # With more tokens than words, the release starts at random.
    words, notes = words_for("ivlp", config.words, config.n_text)
    phrasing = ContextPhrasing(config.n_text, words)
    depth = resolve_depth("ivlp", "text", clip.text, config.depth_text)
    deeper = [0.02 * torch.randn(config.n_text, clip.text.width) for _ in range(depth - 1)]
    prompts = {"text": DeepTokens("text", [phrasing.start(clip), *deeper])}
    if config.n_image:
        check_tokens("ivlp", "n_image", config.n_image)
        depth = resolve_depth("ivlp", "image", clip.image, config.depth_image)
        starts = [0.02 * torch.randn(config.n_image, clip.image.width) for _ in range(depth)]
        prompts["image"] = DeepTokens("image", starts)
    adapter = Adapter(clip, classes, phrasing, Together(**prompts), MeanHead())
    stage = Stage(WeightedLoss(cross_entropy), config.epochs, config.batch_size, OptimiserConfig(lr=config.lr))
    return Recipe(adapter, [stage], notes=notes)


def published_name(name: str) -> str:
    """Name of a learnable in the released code's state dict."""
    tower, layer = name.split(".")[2], int(name.split(".")[4])
    return image_token_name(layer) if tower == "image" else text_token_name(layer)


def published_options(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """Options that a released state dict implies."""
    options: dict[str, Any] = {
        "n_text": len(tensors["prompt_learner.ctx"]),
        "depth_text": deep_token_count(tensors, "text_encoder"),
    }
    if "image_encoder.VPT" not in tensors:
        return {**options, "n_image": 0}
    depth = deep_token_count(tensors, "image_encoder")
    return {**options, "n_image": len(tensors["image_encoder.VPT"]), "depth_image": depth}
