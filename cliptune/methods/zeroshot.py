"""Zero-shot CLIP: hand-written sentences, nothing learned.  (arXiv:2103.00020)"""

from __future__ import annotations

from dataclasses import dataclass

from cliptune.adapter import Adapter
from cliptune.clip.model import CLIP
from cliptune.heads import MeanHead
from cliptune.prompts import NoPrompt
from cliptune.recipe import Recipe
from cliptune.texts import ClassSet, TemplatePhrasing, ensemble

PAPER = "2103.00020"
ENTERS = "nowhere"


@dataclass(frozen=True)
class Config:
    """Options.

    Args:
        templates: "" for the data set's own template, or an ensemble: "selected7", "promptsrc60", "imagenet80".
    """

    templates: str = ""


def build(clip: CLIP, classes: ClassSet, config: Config = Config()) -> Recipe:
    phrasing = TemplatePhrasing(ensemble(config.templates) if config.templates else ())
    return Recipe(Adapter(clip, classes, phrasing, NoPrompt(), MeanHead()), [])
