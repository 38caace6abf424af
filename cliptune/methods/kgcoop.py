"""KgCoOp: CoOp whose class texts stay near the hand-written ones.  (arXiv:2303.13283)"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor

from cliptune.adapter import Adapter
from cliptune.clip.model import CLIP
from cliptune.heads import MeanHead
from cliptune.objectives import WeightedLoss, knowledge_guided
from cliptune.prompts import DeepTokens
from cliptune.recipe import OptimiserConfig, Recipe, Stage
from cliptune.texts import ClassSet, ContextPhrasing, TemplatePhrasing

PAPER = "2303.13283"
ENTERS = "text.tokens[0]"
FORMS = ("paper", "released")
# Its release saves and loads the prompt learner alone, without what the names of a whole model begin with.
PUBLISHED_LEARNER = True


@dataclass(frozen=True)
class Config:
    """Options.

    Args:
        n_ctx: learned tokens.
        words: initial words, one token each; "" starts at N(0, 0.02²).
        weight: λ of the knowledge term, ≥ 0.
        form: "paper" is the squared distance, "released" the cosine form, half as strong at the same weight. The
            published numbers come from the released code.
        anchor: sentence of the frozen texts, with `{}`; "" for the data set's own. (The release has
            "a photo of a {}, a type of texture." for DTD.)
        lr, batch_size, epochs: of SGD with the field's schedule.
    """

    n_ctx: int = 4
    words: str = "a photo of a"
    weight: float = 8.0
    form: Literal["paper", "released"] = "paper"
    anchor: str = ""
    lr: float = 2e-3
    batch_size: int = 128
    epochs: int = 100

    def __post_init__(self) -> None:
        if self.form not in FORMS:
            raise ValueError(f"kgcoop: form must be one of {', '.join(FORMS)}, got {self.form!r}.")
        if not 0 <= self.weight < math.inf:
            raise ValueError(f"kgcoop: weight must be a number of at least 0, got {self.weight}.")


def build(clip: CLIP, classes: ClassSet, config: Config = Config()) -> Recipe:
    phrasing = ContextPhrasing(config.n_ctx, config.words)
    anchor = TemplatePhrasing((config.anchor,) if config.anchor else ())
    prompt = DeepTokens("text", [phrasing.start(clip)])
    adapter = Adapter(clip, classes, phrasing, prompt, MeanHead(), reference_phrasing=anchor)
    loss = WeightedLoss(knowledge_guided, needs={"reference"}, weight=config.weight, form=config.form)
    return Recipe(adapter, [Stage(loss, config.epochs, config.batch_size, OptimiserConfig(lr=config.lr))])


def published_name(name: str) -> str:
    """Name of a learnable in the released code's state dict."""
    return {"prompt.layers.0.value": "prompt_learner.ctx"}[name]


def published_options(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """Options that a released state dict implies: what it was trained with used the released form."""
    return {"n_ctx": len(tensors["prompt_learner.ctx"]), "words": "", "form": "released"}
