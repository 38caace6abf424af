"""SS-Text+: texts and class sums of images in one prototype each, in closed form.  (arXiv:2506.17500)"""

from __future__ import annotations

from dataclasses import dataclass

from cliptune.adapter import Adapter
from cliptune.clip.model import CLIP
from cliptune.heads import SSTextHead
from cliptune.prompts import NoPrompt
from cliptune.recipe import Recipe, Stage
from cliptune.texts import ClassSet, TemplatePhrasing, ensemble

PAPER = "2506.17500"
ENTERS = "nowhere; a prototype per class in the head, of its text and its images"


@dataclass(frozen=True)
class Config:
    """Options. Without the first two it is SS-Text (arXiv:2506.06076).

    Args:
        balance: classes with few images stay nearer to their texts than others.
        repel: then push the prototypes off their common mean.
        templates: "" for the data set's own sentence, or an ensemble: "selected7", "promptsrc60", "imagenet80".
    """

    balance: bool = True
    repel: bool = True
    templates: str = ""


def build(clip: CLIP, classes: ClassSet, config: Config = Config()) -> Recipe:
    phrasing = TemplatePhrasing(ensemble(config.templates) if config.templates else (), raw_mean=True)
    head = SSTextHead(len(classes), clip.image.embed, float(clip.scale), config.balance, config.repel)
    stage = Stage(None, epochs=1, batch_size=100, optimiser=None, name="solve", augment=False)
    return Recipe(Adapter(clip, classes, phrasing, NoPrompt(), head), [stage])
