"""DVP-cse: one frame per cause, descriptions reweighted by votes of training images.  (arXiv:2506.01000)"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from cliptune.adapter import Adapter
from cliptune.clip.model import CLIP
from cliptune.heads import Head, NearestHead, PRMHead
from cliptune.prompts import PixelFrame
from cliptune.recipe import Recipe
from cliptune.texts import ClassSet
from cliptune.visual import PRMConfig, causes_of, flags, stage, stages_with_prm

PAPER = "2506.01000"
ENTERS = "pixels: a frame per cause"


@dataclass(frozen=True)
class Config(PRMConfig):
    """Options.

    Args:
        causes: sets of descriptions, one pattern for each; empty for all there are.
        decoupled: a pattern per cause; false for one pattern that all descriptions share.
        reweight: "prm", or for comparison "mean" or "max" over each class's descriptions.
    """

    causes: tuple[str, ...] = ()
    decoupled: bool = True
    reweight: Literal["prm", "mean", "max"] = "prm"


def build(clip: CLIP, classes: ClassSet, config: Config = Config()) -> Recipe:
    causes = causes_of("dvp_cse", classes, tuple(config.causes), most=3 if not classes.descriptions else 99)
    phrasing = config.phrasing(causes, tuple(range(len(causes))) if config.decoupled else None)
    head: Head
    if config.reweight == "prm":
        head = PRMHead(len(classes), sum(phrasing.sizes(classes)), config.votes, config.smoothing)
        stages = stages_with_prm(config)
    else:
        head = NearestHead(1 if config.reweight == "max" else None)
        stages = [stage(config)]
    prompt = PixelFrame(clip, config.inner, patterns=len(causes) if config.decoupled else 1)
    adapter = Adapter(clip, classes, phrasing, prompt, head, chunk=config.chunk)
    return Recipe(adapter, stages, flags=flags("dvp_cse", classes))
