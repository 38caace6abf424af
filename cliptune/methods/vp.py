"""VP: a learned border added over the image, after normalisation.  (arXiv:2203.17274)"""

from __future__ import annotations

from dataclasses import dataclass

from cliptune.adapter import Adapter
from cliptune.clip.model import CLIP
from cliptune.heads import MeanHead
from cliptune.prompts import PixelOverlay
from cliptune.recipe import Recipe
from cliptune.texts import ClassSet, TemplatePhrasing
from cliptune.visual import stage

PAPER = "2203.17274"
ENTERS = "pixels: an overlay"


@dataclass(frozen=True)
class Config:
    """Options.

    Args:
        border: width of the learned border in pixels, up to half the side; None for 30 of 224.
        sentence: template of the class texts; "" for the data set's own.
        lr, batch_size, epochs: of SGD with a cosine per step.
        chunk: views per pass of the image tower, to bound memory; None for all at once.
    """

    border: int | None = None
    sentence: str = "This is a photo of {}."
    lr: float = 10.0
    batch_size: int = 32
    epochs: int = 50
    chunk: int | None = None


def build(clip: CLIP, classes: ClassSet, config: Config = Config()) -> Recipe:
    prompt = PixelOverlay(clip, config.border)
    phrasing = TemplatePhrasing((config.sentence,) if config.sentence else ())
    adapter = Adapter(clip, classes, phrasing, prompt, MeanHead(), chunk=config.chunk)
    return Recipe(adapter, [stage(config.epochs, config.batch_size, config.lr)])
