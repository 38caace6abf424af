"""RVP: a frame, learned weights over descriptions, a learned exchange between classes.  (no arXiv id is known)

"Reprogramming Vision-Language Models via Structured Prompt Reparameterization" (Li, Cai, Ansari, Liu, West,
Khoshelham), in its version with thirteen tables of results: Sec. 4 has the formulas, App. D the settings. The
optimiser of the head is not stated there; it shares SGD and cosine with the frame, at its own rate. Nor is the start
of the weights over descriptions, which is zero here.
"""

from __future__ import annotations

from dataclasses import dataclass

from cliptune.adapter import Adapter
from cliptune.clip.model import CLIP
from cliptune.heads import RVPHead
from cliptune.prompts import PixelFrame
from cliptune.recipe import Recipe
from cliptune.texts import ClassSet
from cliptune.texts.descriptions import DESCRIBING
from cliptune.visual import DescribedConfig, flags, stage

PAPER = ""
ENTERS = "pixels: a frame; weights over descriptions and classes"


@dataclass(frozen=True)
class Config(DescribedConfig):
    """Options.

    Args:
        residual: learn the exchange between classes, which is most of the gain where classes resemble each other, and
            can harm where there are few.
        head_lr: rate of the weights over descriptions and classes, in SGD beside the frame's.
    """

    residual: bool = True
    head_lr: float = 1e-3


def build(clip: CLIP, classes: ClassSet, config: Config = Config()) -> Recipe:
    if not config.head_lr > 0:
        raise ValueError(f"rvp: head_lr must be above 0, got {config.head_lr}.")
    phrasing = config.phrasing((DESCRIBING,))
    head = RVPHead(len(classes), sum(phrasing.sizes(classes)), config.residual)
    adapter = Adapter(clip, classes, phrasing, PixelFrame(clip, config.inner), head, chunk=config.chunk)
    learned = stage(config, factors={"head.": config.head_lr / config.lr})
    return Recipe(adapter, [learned], flags=flags("rvp", classes))
