"""CoOp: learned context words, unified or per class.  (arXiv:2109.01134)"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from cliptune.adapter import Adapter
from cliptune.clip.model import CLIP
from cliptune.heads import MeanHead
from cliptune.objectives import WeightedLoss, cross_entropy
from cliptune.prompts import DeepTokens
from cliptune.recipe import OptimiserConfig, Recipe, Stage
from cliptune.texts import ClassSet, ContextPhrasing
from cliptune.texts.phrasing import Position

PAPER = "2109.01134"
ENTERS = "text.tokens[0]"
EXACT = "gradients of coop in bfloat16 were up to 3.0 % off in norm"
# Its release saves and loads the prompt learner alone, without what the names of a whole model begin with.
PUBLISHED_LEARNER = True


@dataclass(frozen=True)
class Config:
    """Options.

    Args:
        n_ctx: learned tokens.
        words: initial words, one token each; "" starts at N(0, 0.02²).
        position: of the context around the class name: "end" (name last), "middle" or "front".
        class_specific: one context per class (CSC), which cannot speak of other classes; starts at random.
        lr, batch_size, epochs: of SGD with the field's schedule.
    """

    n_ctx: int = 4
    words: str = "a photo of a"
    position: Position = "end"
    class_specific: bool = False
    lr: float = 2e-3
    batch_size: int = 32
    epochs: int = 50


def build(clip: CLIP, classes: ClassSet, config: Config = Config()) -> Recipe:
    # As released, class-specific contexts have no word start.
    words = "" if config.class_specific else config.words
    phrasing = ContextPhrasing(config.n_ctx, words, config.position)
    if config.class_specific:
        start = clip.text.token_embedding.weight.new_empty(len(classes), config.n_ctx, clip.text.width)
        start = start.float().normal_(std=0.02)
    else:
        start = phrasing.start(clip)
    adapter = Adapter(clip, classes, phrasing, DeepTokens("text", [start]), MeanHead())
    stage = Stage(WeightedLoss(cross_entropy), config.epochs, config.batch_size, OptimiserConfig(lr=config.lr))
    return Recipe(adapter, [stage], exact=EXACT)


def published_name(name: str) -> str:
    """Name of a learnable in the released code's state dict."""
    return {"prompt.layers.0.value": "prompt_learner.ctx"}[name]


def published_options(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """Options that a released state dict implies. All words are learned there, so none stay fixed."""
    ctx = tensors["prompt_learner.ctx"]
    return {"n_ctx": ctx.shape[-2], "words": "", "class_specific": ctx.ndim == 3}
