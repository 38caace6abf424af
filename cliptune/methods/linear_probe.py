"""Linear probe: logistic regression on frozen image embeddings.  (arXiv:2103.00020, Sec. 3.2)"""

from __future__ import annotations

from dataclasses import dataclass

from cliptune.adapter import Adapter
from cliptune.clip.model import CLIP
from cliptune.heads import LinearHead
from cliptune.prompts import NoPrompt
from cliptune.recipe import Recipe, Stage
from cliptune.texts import ClassSet, TemplatePhrasing

PAPER = "2103.00020"
ENTERS = "nowhere; a linear head on the image embedding"


@dataclass(frozen=True)
class Config:
    """Options.

    Args:
        max_iter: passes through the training images for each value of C, at most.
        c: inverse regularisation strength; None searches it on the validation images, if there are any; else it is 1.
    """

    max_iter: int = 1000
    c: float | None = None


def build(clip: CLIP, classes: ClassSet, config: Config = Config()) -> Recipe:
    head = LinearHead(len(classes), clip.image.embed, config.max_iter, config.c)
    stage = Stage(None, epochs=1, batch_size=100, optimiser=None, name="fit", augment=False, observe=("train", "val"))
    flags = {"validation_images": "chose C, where there were any"} if config.c is None else {}
    return Recipe(Adapter(clip, classes, TemplatePhrasing(), NoPrompt(), head), [stage], flags=flags)
