"""AR: a learned frame around a smaller image, before normalisation.  (arXiv:2007.08714)"""

from __future__ import annotations

from dataclasses import dataclass

from cliptune.adapter import Adapter
from cliptune.clip.model import CLIP
from cliptune.heads import MeanHead
from cliptune.prompts import PixelFrame
from cliptune.recipe import Recipe
from cliptune.texts import ClassSet, TemplatePhrasing
from cliptune.visual import VisualConfig, stage

PAPER = "2007.08714"
ENTERS = "pixels: a frame"


@dataclass(frozen=True)
class Config(VisualConfig):
    """Options.

    Args:
        inner: side of the image inside the frame in pixels; None for 192 of 224, in whole patches on fine grids.
        sentence: template of the class texts; "" for the data set's own.
    """

    inner: int | None = None
    sentence: str = "This is a photo of {}."


def build(clip: CLIP, classes: ClassSet, config: Config = Config()) -> Recipe:
    prompt = PixelFrame(clip, config.inner)
    phrasing = TemplatePhrasing((config.sentence,) if config.sentence else ())
    adapter = Adapter(clip, classes, phrasing, prompt, MeanHead(), chunk=config.chunk)
    return Recipe(adapter, [stage(config)])
