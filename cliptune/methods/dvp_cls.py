"""DVP-cls: one frame per cluster of descriptions, reweighted by votes of training images.  (arXiv:2506.01000)"""

from __future__ import annotations

from dataclasses import dataclass

from cliptune.adapter import Adapter
from cliptune.clip.model import CLIP
from cliptune.heads import PRMHead
from cliptune.prompts import PixelFrame
from cliptune.recipe import Recipe
from cliptune.texts import ClassSet
from cliptune.texts.descriptions import DESCRIBING
from cliptune.visual import PRMConfig, flags, stages_with_prm

PAPER = "2506.01000"
ENTERS = "pixels: a frame per cluster"


@dataclass(frozen=True)
class Config(PRMConfig):
    """Options.

    Args:
        clusters: v, patterns, and clusters that k-means divides the descriptions of all classes into.
    """

    clusters: int = 3


def build(clip: CLIP, classes: ClassSet, config: Config = Config()) -> Recipe:
    phrasing = config.phrasing((DESCRIBING,))
    head = PRMHead(len(classes), sum(phrasing.sizes(classes)), config.votes, config.smoothing, groups=config.clusters)
    prompt = PixelFrame(clip, config.inner, patterns=config.clusters)
    adapter = Adapter(clip, classes, phrasing, prompt, head, chunk=config.chunk)
    stages = stages_with_prm(config)
    return Recipe(adapter, stages, flags=flags("dvp_cls", classes))
