"""GDA: every class a Gaussian of image features with one covariance, beside the texts.  (arXiv:2402.04087)

New classes are given Gaussians of the training features nearest to their texts.
"""

from __future__ import annotations

from dataclasses import dataclass

from cliptune.adapter import Adapter
from cliptune.clip.model import CLIP
from cliptune.heads import GaussianHead
from cliptune.prompts import NoPrompt
from cliptune.recipe import Recipe, Stage
from cliptune.texts import ClassSet, TemplatePhrasing, ensemble

PAPER = "2402.04087"
ENTERS = "nowhere; Gaussians of image features in the head"
# Share of the area of random crops.
CROP = (0.5, 1.0)


@dataclass(frozen=True)
class Config:
    """Options.

    Args:
        alpha: α > 0, weight of the Gaussians beside the texts; None chooses it by cross-validation on the training
            images.
        search: choose α on the validation images, if there are any, as released.
        views: augmented views of each training image, each a feature of its own, as released with 10; 0 for the image
            itself, which is better where crops and flips change what an image means.
        templates: "" for the data set's own sentence, or an ensemble: "selected7", "promptsrc60", "imagenet80".
    """

    alpha: float | None = None
    search: bool = False
    views: int = 0
    templates: str = ""


def build(clip: CLIP, classes: ClassSet, config: Config = Config()) -> Recipe:
    if config.views < 0:
        raise ValueError(f"gda: views must be at least 0 per training image, got {config.views}.")
    phrasing = TemplatePhrasing(ensemble(config.templates) if config.templates else ())
    head = GaussianHead(len(classes), clip.image.embed, config.alpha, config.search)
    stage = Stage(
        None, epochs=1, batch_size=100, optimiser=None, name="fit the Gaussians",
        observe=("train", "val") if config.search else ("train",),
        augment=config.views > 0, observe_views=max(1, config.views), average_views=False, crop=CROP,
    )  # fmt: skip
    flags = {"validation_images": "chose α, where there were any"} if config.search else {}
    return Recipe(Adapter(clip, classes, phrasing, NoPrompt(), head), [stage], flags=flags)
