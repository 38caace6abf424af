"""LP++: a linear probe and the texts, blended per class, with step sizes of the data.  (arXiv:2404.02285)"""

from __future__ import annotations

from dataclasses import dataclass

from cliptune.adapter import Adapter
from cliptune.clip.model import CLIP
from cliptune.heads import LPPlusPlusHead
from cliptune.prompts import NoPrompt
from cliptune.recipe import Recipe, Stage
from cliptune.texts import ClassSet, TemplatePhrasing, ensemble

PAPER = "2404.02285"
ENTERS = "nowhere; a linear head on image features and a multiplier of each text"
# Share of the area of random crops.
CROP = (0.5, 1.0)


@dataclass(frozen=True)
class Config:
    """Options.

    Args:
        epochs: full-batch steps of the probe.
        search: keep the epoch that is best on the validation images, if there are any, as released; else the last.
        summed: the texts' multipliers follow the gradients of all epochs so far, as released; else of the present one.
        views: augmented views of each training image, each a feature of its own, as released with 1; 0 for the image
            itself, which is better where crops and flips change what an image means.
        templates: "" for the data set's own sentence, or an ensemble: "selected7", "promptsrc60", "imagenet80".
    """

    epochs: int = 300
    search: bool = False
    summed: bool = True
    views: int = 0
    templates: str = ""


def build(clip: CLIP, classes: ClassSet, config: Config = Config()) -> Recipe:
    if config.views < 0:
        raise ValueError(f"lp_plus_plus: views must be at least 0 per training image, got {config.views}.")
    phrasing = TemplatePhrasing(ensemble(config.templates) if config.templates else ())
    scale = float(clip.scale)
    head = LPPlusPlusHead(len(classes), clip.image.embed, scale, config.epochs, config.summed, config.search)
    stage = Stage(
        None, epochs=1, batch_size=100, optimiser=None, name="fit the probe",
        observe=("train", "val") if config.search else ("train",),
        augment=config.views > 0, observe_views=max(1, config.views), average_views=False, crop=CROP,
    )  # fmt: skip
    flags = {"validation_images": "chose the epoch, where there were any"} if config.search else {}
    return Recipe(Adapter(clip, classes, phrasing, NoPrompt(), head), [stage], flags=flags)
