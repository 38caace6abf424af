"""CoCoOp: context words that depend on the image.  (arXiv:2203.05557)"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from cliptune.adapter import Adapter
from cliptune.clip.model import CLIP
from cliptune.heads import MeanHead
from cliptune.objectives import WeightedLoss, cross_entropy
from cliptune.prompts import ConditionalTokens
from cliptune.recipe import OptimiserConfig, Recipe, Stage
from cliptune.texts import ClassSet, ContextPhrasing

PAPER = "2203.05557"
ENTERS = "text.tokens[0], condition"
# The meta-net's hidden layer is this many times narrower than the image feature (Sec. 4).
REDUCTION = 16
# Its release saves and loads the prompt learner alone, without what the names of a whole model begin with.
PUBLISHED_LEARNER = True


@dataclass(frozen=True)
class Config:
    """Options.

    Args:
        n_ctx: learned tokens.
        words: initial words, one token each; "" starts at N(0, 0.02²).
        lr, batch_size, epochs: of SGD with the field's schedule. Batches of more than one image are faster per image
            and make fewer, averaged steps, which is another optimisation than the paper's.
    """

    n_ctx: int = 4
    words: str = "a photo of a"
    lr: float = 2e-3
    batch_size: int = 1
    epochs: int = 10


def build(clip: CLIP, classes: ClassSet, config: Config = Config()) -> Recipe:
    phrasing = ContextPhrasing(config.n_ctx, config.words)
    embed = clip.image.embed
    prompt = ConditionalTokens(phrasing.start(clip), embed, max(1, embed // REDUCTION))
    adapter = Adapter(clip, classes, phrasing, prompt, MeanHead())
    stage = Stage(WeightedLoss(cross_entropy), config.epochs, config.batch_size, OptimiserConfig(lr=config.lr))
    return Recipe(adapter, [stage])


def published_name(name: str) -> str:
    """Name of a learnable in the released code's state dict."""
    if name == "prompt.layers.0.value":
        return "prompt_learner.ctx"
    return name.replace("prompt.meta.", "prompt_learner.meta_net.")


def published_options(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """Options that a released state dict implies."""
    return {"n_ctx": len(tensors["prompt_learner.ctx"]), "words": ""}
