"""AttrVR: a frame, and for each image the nearest attributes of every class.  (arXiv:2501.13982)"""

from __future__ import annotations

from dataclasses import dataclass

from cliptune.adapter import Adapter
from cliptune.clip.model import CLIP
from cliptune.heads import NearestHead
from cliptune.prompts import PixelFrame
from cliptune.recipe import Recipe
from cliptune.texts import ClassSet
from cliptune.texts.descriptions import DESCRIBING, DISTINGUISHING
from cliptune.visual import DescribedConfig, flags, stage

PAPER = "2501.13982"
ENTERS = "pixels: a frame"
EXACT = "gradients of attrvr in bfloat16 were up to 2.3 % off in norm, with cosines from 0.994 on"


@dataclass(frozen=True)
class Config(DescribedConfig):
    """Options.

    Args:
        nearest: k, attributes of each set that speak for a class; 1 is the maximum.
        weight: λ in [0, 1], share of the describing attributes; the distinguishing ones have the rest.
    """

    nearest: int = 3
    weight: float = 0.5


def build(clip: CLIP, classes: ClassSet, config: Config = Config()) -> Recipe:
    if not 0 <= config.weight <= 1:
        raise ValueError(f"attrvr: weight is the share of describing attributes, in [0, 1], got {config.weight}.")
    phrasing = config.phrasing((DESCRIBING, DISTINGUISHING))
    head = NearestHead(config.nearest, (config.weight, 1 - config.weight))
    adapter = Adapter(clip, classes, phrasing, PixelFrame(clip, config.inner), head, chunk=config.chunk)
    return Recipe(adapter, [stage(config)], flags=flags("attrvr", classes), exact=EXACT)
