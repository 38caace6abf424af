"""VP: a learned border added over the image, after normalisation.  (arXiv:2203.17274)"""

from __future__ import annotations

from dataclasses import dataclass

from cliptune.adapter import Adapter
from cliptune.clip.model import CLIP
from cliptune.heads import MeanHead
from cliptune.prompts import PixelOverlay
from cliptune.recipe import Recipe
from cliptune.texts import ClassSet, TemplatePhrasing
from cliptune.visual import VisualConfig, stage

PAPER = "2203.17274"
ENTERS = "pixels: an overlay"


@dataclass(frozen=True)
class Config(VisualConfig):
    """Options.

    Args:
        border: width of the learned border in pixels, up to half the side; None for 30 of 224.
        sentence: template of the class texts; "" for the data set's own.
    """

    border: int | None = None
    sentence: str = "This is a photo of {}."


def build(clip: CLIP, classes: ClassSet, config: Config = Config()) -> Recipe:
    prompt = PixelOverlay(clip, config.border)
    phrasing = TemplatePhrasing((config.sentence,) if config.sentence else ())
    adapter = Adapter(clip, classes, phrasing, prompt, MeanHead(), chunk=config.chunk)
    return Recipe(adapter, [stage(config)])
