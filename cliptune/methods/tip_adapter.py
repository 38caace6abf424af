"""Tip-Adapter: a cache of the training images votes beside the texts; nothing is trained.  (arXiv:2207.09519)"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from cliptune.adapter import Adapter
from cliptune.clip.model import CLIP
from cliptune.heads import CacheHead
from cliptune.prompts import NoPrompt
from cliptune.recipe import Recipe, Stage
from cliptune.texts import ClassSet, TemplatePhrasing, ensemble

PAPER = "2207.09519"
ENTERS = "nowhere; a cache of image features in the head"
# Share of the area of random crops.
CROP = (0.5, 1.0)


@dataclass(frozen=True)
class Config:
    """Options.

    Args:
        alpha: α > 0, weight of the cache. beta: β > 0, its sharpness. Both as they start.
        search: look for better ones on the validation images, if there are any.
        alpha_max, beta_max: ends of the search, which starts at 0.1.
        views: augmented views of each training image, whose embeddings are averaged into its key.
        templates: "" for the data set's own sentence, or an ensemble: "selected7", "promptsrc60", "imagenet80".
    """

    alpha: float = 1.17
    beta: float = 1.0
    search: bool = True
    alpha_max: float = 3.0
    beta_max: float = 7.0
    views: int = 10
    templates: str = ""


def build(clip: CLIP, classes: ClassSet, config: Config = Config()) -> Recipe:
    return Recipe(cache_adapter(clip, classes, config), [filling(config, ("train", "val"))], flags=flags(config))


def cache_adapter(clip: CLIP, classes: ClassSet, config: Any, learn: bool = False) -> Adapter:
    """The frozen CLIP with an empty cache; `config` has the fields of `Config`."""
    largest = (config.alpha_max, config.beta_max) if config.search else None
    head = CacheHead(len(classes), clip.image.embed, config.alpha, config.beta, learn, largest)
    phrasing = TemplatePhrasing(ensemble(config.templates) if config.templates else ())
    return Adapter(clip, classes, phrasing, NoPrompt(), head)


def flags(config: Any) -> dict[str, Any]:
    """What a result says before the search has been: afterwards it says what was chosen, and on how many images."""
    return {"validation_images": "chose α and β, where there were any"} if config.search else {}


def filling(config: Any, observe: tuple[str, ...]) -> Stage:
    """The stage that shows the images to the cache."""
    if config.views < 1:
        raise ValueError(f"tip_adapter: views must be at least 1 per training image, got {config.views}.")
    return Stage(
        None, epochs=1, batch_size=100, optimiser=None, name="fill the cache", observe=observe,
        observe_views=config.views, crop=CROP,
    )  # fmt: skip
