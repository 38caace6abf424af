"""PromptSRC: deep tokens in both towers, kept near the frozen CLIP and averaged over epochs.  (arXiv:2307.06948)"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from cliptune.adapter import Adapter
from cliptune.clip.model import CLIP
from cliptune.heads import MeanHead
from cliptune.objectives import WeightedLoss, self_regularised
from cliptune.prompts import DeepTokens, Together
from cliptune.prompts.averaging import GaussianAveraging
from cliptune.prompts.depth import check_tokens, resolve_depth, shallower
from cliptune.recipe import OptimiserConfig, Recipe, Stage
from cliptune.registry.released_names import deep_token_count, image_token_name, text_token_name
from cliptune.texts import ClassSet, ContextPhrasing, TemplatePhrasing, ensemble
from cliptune.texts.phrasing import words_for

PAPER = "2307.06948"
ENTERS = "text.tokens, image.tokens"
PUBLISHED_DEPTH = 9


@dataclass(frozen=True)
class Config:
    """Options.

    Args:
        n_text, n_image: tokens per prompted block.
        depth_text, depth_image: prompted blocks of each tower; None for the paper's 9, or all of a shallower tower.
        words: initial words of the first text layer, used if n_text is at most their number; else N(0, 0.02²).
        weight_text, weight_image, weight_logits: of the three self-regularising terms.
        templates: ensemble behind the frozen text features: "promptsrc60", "imagenet80", "selected7", or "" for the
            data set's own sentence.
        gpa: average the prompts over the epochs (Gaussian prompt aggregation).
        gpa_mean, gpa_std: centre and width of the average, in epochs counted from 1. They belong to the number of
            epochs: a centre far behind the last epoch is nearly the last epoch alone.
        lr, batch_size, epochs: of SGD with the field's schedule.
    """

    n_text: int = 4
    n_image: int = 4
    depth_text: int | None = None
    depth_image: int | None = None
    words: str = "a photo of a"
    weight_text: float = 25.0
    weight_image: float = 10.0
    weight_logits: float = 1.0
    templates: str = "promptsrc60"
    gpa: bool = True
    gpa_mean: float = 15.0
    gpa_std: float = 1.0
    lr: float = 2.5e-3
    batch_size: int = 4
    epochs: int = 20


def build(clip: CLIP, classes: ClassSet, config: Config = Config()) -> Recipe:
    check_tokens("promptsrc", "n_image", config.n_image)
    words, notes = words_for("promptsrc", config.words, config.n_text)
    phrasing = ContextPhrasing(config.n_text, words)
    text_depth = resolve_depth("promptsrc", "text", clip.text, config.depth_text, PUBLISHED_DEPTH)
    image_depth = resolve_depth("promptsrc", "image", clip.image, config.depth_image, PUBLISHED_DEPTH)
    deeper = [0.02 * torch.randn(config.n_text, clip.text.width) for _ in range(text_depth - 1)]
    starts = [0.02 * torch.randn(config.n_image, clip.image.width) for _ in range(image_depth)]
    prompt = Together(
        text=DeepTokens("text", [phrasing.start(clip), *deeper]),
        image=DeepTokens("image", starts),
    )
    # As released, the sentences' features are averaged before they are normalised.
    frozen = TemplatePhrasing(ensemble(config.templates) if config.templates else (), raw_mean=True)
    adapter = Adapter(clip, classes, phrasing, prompt, MeanHead(), reference_phrasing=frozen)
    loss = WeightedLoss(
        self_regularised,
        needs={"reference"},
        text=config.weight_text,
        image=config.weight_image,
        logits=config.weight_logits,
    )
    hooks = (GaussianAveraging(config.gpa_mean, config.gpa_std),) if config.gpa else ()
    optimiser = OptimiserConfig(lr=config.lr)
    for option, given, found in (
        ("depth_text", config.depth_text, text_depth),
        ("depth_image", config.depth_image, image_depth),
    ):
        notes += shallower("promptsrc", given, found, PUBLISHED_DEPTH, option)
    stage = Stage(loss, config.epochs, config.batch_size, optimiser, after_epoch=hooks)
    return Recipe(adapter, [stage], notes=notes)


def published_name(name: str) -> str:
    """Name of a learnable in the released code's state dict. A released checkpoint holds the average."""
    tower, layer = name.split(".")[2], int(name.split(".")[4])
    return image_token_name(layer) if tower == "image" else text_token_name(layer)


def published_options(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """Options that a released state dict implies."""
    return {
        "n_text": len(tensors["prompt_learner.ctx"]),
        "n_image": len(tensors["image_encoder.VPT"]),
        "depth_text": deep_token_count(tensors, "text_encoder"),
        "depth_image": deep_token_count(tensors, "image_encoder"),
    }
