"""DVPlite: the strips of one frame, each taught by the descriptions of its own cause.  (arXiv:2506.01000)

Only the division into four directions, one cause for each, and the number of values are published. That up and down
own the corners, and that a strip is tied to its cause by the gradient that it gets, is our reading.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from cliptune.adapter import Adapter
from cliptune.clip.model import CLIP
from cliptune.heads import PRMHead
from cliptune.prompts import PixelFrame
from cliptune.prompts.pixels import STRIPS
from cliptune.recipe import Recipe
from cliptune.texts import ClassSet
from cliptune.visual import PRMConfig, causes_of, flags, stages_with_prm

PAPER = "2506.01000"
ENTERS = "pixels: a frame of four strips"


@dataclass(frozen=True)
class Config(PRMConfig):
    """Options.

    Args:
        causes: four sets of descriptions, for the strips up, down, left and right; empty for the first four.
        gradient: "decoupled": each strip learns only from the scores of its own cause; "joint": from all, as in ar.
    """

    causes: tuple[str, ...] = ()
    gradient: Literal["decoupled", "joint"] = "decoupled"


def build(clip: CLIP, classes: ClassSet, config: Config = Config()) -> Recipe:
    causes = causes_of("dvplite", classes, tuple(config.causes), most=len(STRIPS))
    if len(causes) != len(STRIPS):
        raise ValueError(
            f"dvplite: the frame has four strips, one for each of four causes, but there are {len(causes)}: "
            f"{', '.join(causes)}. Use dvp_cse, which takes any number of causes."
        )
    phrasing = config.phrasing(causes, tuple(range(len(causes))))
    head = PRMHead(len(classes), sum(phrasing.sizes(classes)), config.votes, config.smoothing)
    prompt = PixelFrame(clip, config.inner, strips=config.gradient == "decoupled")
    adapter = Adapter(clip, classes, phrasing, prompt, head, chunk=config.chunk)
    stages = stages_with_prm(config)
    return Recipe(adapter, stages, flags=flags("dvplite", classes))
