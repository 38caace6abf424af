"""APE: a cache of training images on the channels that tell classes apart; nothing is trained.  (arXiv:2304.01195)"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from cliptune.adapter import Adapter
from cliptune.clip.model import CLIP
from cliptune.heads import RefinedHead
from cliptune.heads.refined import Search
from cliptune.prompts import NoPrompt
from cliptune.recipe import Recipe, Stage
from cliptune.texts import ClassSet, TemplatePhrasing, ensemble

PAPER = "2304.01195"
ENTERS = "nowhere; a cache of image features in the head"
# Share of the area of random crops.
CROP = (0.5, 1.0)


@dataclass(frozen=True)
class Config:
    """Options.

    Args:
        alpha: α > 0, weight of the cache. beta: β > 0, its sharpness. gamma: γ ≥ 0, how much more a key counts that is
            not like its own class's text.
        share: of the channels that are looked at, above 0 and at most 1.
        balance: λ in [0, 1] of the channels' score: weight of the similarity between classes; 1 − λ is that of the
            variance of their texts.
        search: look for better α, β and γ on the validation images, if there are any.
        alpha_max, beta_max, gamma_max: ends of the search, which starts at 0.1, for γ at 0. gammas: how many values.
        views: augmented views of each training image, whose embeddings are averaged into its key, as released with 10;
            0 for the image itself, which is better where crops and flips change what an image means.
        templates: "" for the data set's own sentence, or an ensemble: "selected7", "promptsrc60", "imagenet80". The
            release averages the data set's sentences and CuPL's descriptions.
    """

    alpha: float = 2.0
    beta: float = 1.0
    gamma: float = 0.1
    share: float = 500 / 1024
    balance: float = 0.7
    search: bool = False
    alpha_max: float = 7.0
    beta_max: float = 7.0
    gamma_max: float = 1.0
    gammas: int = 20
    views: int = 0
    templates: str = ""


def build(clip: CLIP, classes: ClassSet, config: Config = Config()) -> Recipe:
    search = Search(config.alpha_max, config.beta_max, config.gamma_max, config.gammas) if config.search else None
    head = RefinedHead(
        len(classes), clip.image.embed, config.share, config.balance, config.alpha, config.beta, config.gamma, search
    )
    phrasing = TemplatePhrasing(ensemble(config.templates) if config.templates else ())
    stage = filling("ape", config, ("train", "val") if config.search else ("train",))
    flags = {"validation_images": "chose α, β and γ, where there were any"} if config.search else {}
    return Recipe(Adapter(clip, classes, phrasing, NoPrompt(), head), [stage], flags=flags)


def filling(who: str, config: Any, observe: tuple[str, ...]) -> Stage:
    """The stage that shows the images to the cache; `config` has the fields of `Config`."""
    if config.views < 0:
        raise ValueError(f"{who}: views must be at least 0 per training image, got {config.views}.")
    return Stage(
        None, epochs=1, batch_size=100, optimiser=None, name="fill the cache", observe=observe,
        augment=config.views > 0, observe_views=max(1, config.views), crop=CROP,
    )  # fmt: skip
