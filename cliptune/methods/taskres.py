"""TaskRes: a learned residual on the text embedding of every class.  (arXiv:2211.10277)"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from cliptune.adapter import Adapter
from cliptune.clip.model import CLIP
from cliptune.heads import MeanHead
from cliptune.objectives import WeightedLoss, cross_entropy
from cliptune.prompts import TextResidual
from cliptune.recipe import OptimiserConfig, Recipe, Stage
from cliptune.texts import ClassSet, TemplatePhrasing, ensemble

PAPER = "2211.10277"
ENTERS = "text_features"
# Its release saves and loads the prompt learner alone, and the scale of the residual stands in its configuration.
PUBLISHED_LEARNER = True
PUBLISHED_UNSAID = ("alpha",)


@dataclass(frozen=True)
class Config:
    """Options.

    Args:
        alpha: α > 0, scale of the residual.
        lr, batch_size, epochs: of Adam with the field's schedule, weight decay 5e-4 in the gradient.
        templates: "" for the data set's own sentence, or an ensemble beside it: "selected7", "promptsrc60",
            "imagenet80". Embeddings are averaged before they are normalised, as released.
    """

    alpha: float = 0.5
    lr: float = 2e-3
    batch_size: int = 256
    epochs: int = 200
    templates: str = ""


def build(clip: CLIP, classes: ClassSet, config: Config = Config()) -> Recipe:
    sentences = (*ensemble(config.templates), classes.template) if config.templates else ()
    prompt = TextResidual(len(classes), clip.image.embed, config.alpha)
    adapter = Adapter(clip, classes, TemplatePhrasing(sentences, raw_mean=True), prompt, MeanHead())
    optimiser = OptimiserConfig(lr=config.lr, name="adam")
    return Recipe(adapter, [Stage(WeightedLoss(cross_entropy), config.epochs, config.batch_size, optimiser)])


def published_name(name: str) -> str:
    """Name of a learnable in the released code's state dict."""
    return {"prompt.residual.value": "prompt_learner.text_feature_residuals"}[name]


def published_options(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """Options that a released state dict implies: none."""
    tensors["prompt_learner.text_feature_residuals"]
    return {}
