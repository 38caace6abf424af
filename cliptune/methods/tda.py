"""TDA: caches of the test images that came before, filled without labels; nothing is trained.  (arXiv:2403.18293)"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from cliptune.adapter import Adapter
from cliptune.clip.model import CLIP
from cliptune.heads import StreamHead
from cliptune.prompts import NoPrompt
from cliptune.recipe import Recipe
from cliptune.texts import ClassSet, TemplatePhrasing, ensemble

PAPER = "2403.18293"
ENTERS = "nowhere; caches of earlier test images in the head"


@dataclass(frozen=True)
class Config:
    """Options.

    Args:
        alpha: α > 0, weight of the cache of likely classes. beta: β > 0, its sharpness.
        shots: images of a class in that cache.
        negative_alpha: weight of the cache of unlikely classes; 0 leaves it out. negative_beta: its sharpness.
        negative_shots: images of a class in it.
        least, most: of the entropy of images that it takes, in nats over log₂ of the number of classes, as released.
        unlikely_from, unlikely_to: of the probability of the classes that it marks.
        order: seed of the order in which the images of a split come; None draws it by the seed of the run.
        templates: "" for the data set's own sentence, or an ensemble: "selected7", "promptsrc60", "imagenet80".
    """

    alpha: float = 2.0
    beta: float = 5.0
    shots: int = 3
    negative_alpha: float = 0.117
    negative_beta: float = 1.0
    negative_shots: int = 2
    least: float = 0.2
    most: float = 0.5
    unlikely_from: float = 0.03
    unlikely_to: float = 1.0
    order: int | None = None
    templates: str = ""


def build(clip: CLIP, classes: ClassSet, config: Config = Config()) -> Recipe:
    order = int(torch.randint(2**31 - 1, ())) if config.order is None else config.order
    head = StreamHead(
        config.alpha, config.beta, config.shots, config.negative_alpha, config.negative_beta, config.negative_shots,
        config.least, config.most, (config.unlikely_from, config.unlikely_to), order,
    )  # fmt: skip
    phrasing = TemplatePhrasing(ensemble(config.templates) if config.templates else ())
    return Recipe(
        Adapter(clip, classes, phrasing, NoPrompt(), head), [], flags={"unlabelled_test_images": "as they come"}
    )
