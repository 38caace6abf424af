"""TDA: caches of the test images that came before, filled without labels; nothing is trained.  (arXiv:2403.18293)"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from cliptune.adapter import Adapter
from cliptune.clip.model import CLIP
from cliptune.heads import StreamHead
from cliptune.prompts import NoPrompt
from cliptune.prompts.mixed_views import AugMixViews
from cliptune.recipe import Recipe
from cliptune.texts import ClassSet, TemplatePhrasing, ensemble

PAPER = "2403.18293"
# Of the views, as released; and how many pass the image tower together.
SUREST, TOGETHER = 0.1, 256
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
        views: further views of each test image, mixed by AugMix (arXiv:1912.02781); of all, the tenth that is surest
            stands for it. The release has 63 for the shifts of ImageNet, and none elsewhere.
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
    views: int = 0
    templates: str = ""


def build(clip: CLIP, classes: ClassSet, config: Config = Config()) -> Recipe:
    if config.views < 0:
        raise ValueError(f"tda: views must be at least 0 beside the image itself, got {config.views}.")
    order = int(torch.randint(2**31 - 1, ())) if config.order is None else config.order
    head = StreamHead(
        config.alpha, config.beta, config.shots, config.negative_alpha, config.negative_beta, config.negative_shots,
        config.least, config.most, (config.unlikely_from, config.unlikely_to), order,
        surest=SUREST if config.views else 1.0,
    )  # fmt: skip
    phrasing = TemplatePhrasing(ensemble(config.templates) if config.templates else ())
    prompt = AugMixViews(clip, config.views) if config.views else NoPrompt()
    adapter = Adapter(clip, classes, phrasing, prompt, head, chunk=TOGETHER if config.views else None)
    return Recipe(adapter, [], flags={"unlabelled_test_images": "as they come"})
