"""ACAVP: the image moved, coloured per pixel, and surrounded by a learned pattern.  (arXiv:2510.07823)"""

from __future__ import annotations

import math
from dataclasses import dataclass

from cliptune.adapter import Adapter
from cliptune.clip.model import CLIP
from cliptune.heads import MeanHead
from cliptune.prompts.warped import WarpedPattern
from cliptune.recipe import Recipe
from cliptune.texts import ClassSet, TemplatePhrasing
from cliptune.visual import Augment, VisualConfig, stage

PAPER = "2510.07823"
ENTERS = "pixels: a map of places, a colour per pixel, a surrounding"
EXACT = "gradients of acavp in bfloat16 were up to 3.5 % off in norm"


@dataclass(frozen=True)
class Config(VisualConfig):
    """Options.

    Args:
        scale: of the image at the start, in (0, 1); it stands in the upper left corner.
        colour_range: largest factor on a channel of a pixel, above 1; factors start at 1.
        angle_range: largest rotation and shear in radians. shift_range: largest shift, as a share of the side.
        colour_lr, affine_lr: rates of the colours and of the seven numbers of the map, in SGD beside lr of the
            surrounding. (The release scales each gradient to unit length and clips it before the loss scale of its half
            precision is taken out, so that its rates depend on that scale; here gradients are what they are.)
        sentence: template of the class texts; "" for the data set's own.
        augment: as of every pattern, here "trivial" as in the paper.
    """

    scale: float = 0.73
    colour_range: float = 6.0
    angle_range: float = 0.1
    shift_range: float = 0.05
    colour_lr: float = 1.0
    affine_lr: float = 1e-3
    sentence: str = "This is a photo of a {}"
    augment: Augment = "trivial"


def build(clip: CLIP, classes: ClassSet, config: Config = Config()) -> Recipe:
    for name in ("colour_lr", "affine_lr"):
        if not 0 < getattr(config, name) < math.inf:
            raise ValueError(f"acavp: {name} must be above 0, got {getattr(config, name)}.")
    prompt = WarpedPattern(clip, config.scale, config.colour_range, config.angle_range, config.shift_range)
    phrasing = TemplatePhrasing((config.sentence,) if config.sentence else ())
    adapter = Adapter(clip, classes, phrasing, prompt, MeanHead(), chunk=config.chunk)
    rates = {"prompt.colour.": config.colour_lr / config.lr, "prompt.affine": config.affine_lr / config.lr}
    return Recipe(adapter, [stage(config, factors=rates)], exact=EXACT)
