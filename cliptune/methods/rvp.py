"""RVP: a frame, learned weights over descriptions, a learned exchange between classes.  (no arXiv id is known)

"Reprogramming Vision-Language Models via Structured Prompt Reparameterization". The optimiser of the head is not stated
there; it shares SGD and cosine with the frame, at its own rate.
"""

from __future__ import annotations

from dataclasses import dataclass

from cliptune.adapter import Adapter
from cliptune.clip.model import CLIP
from cliptune.heads import RVPHead
from cliptune.prompts import PixelFrame
from cliptune.recipe import Recipe
from cliptune.texts import ClassSet, DescriptionPhrasing
from cliptune.texts.described import Replacement, Stream
from cliptune.texts.descriptions import DESCRIBING
from cliptune.visual import flags, stage

PAPER = ""
ENTERS = "pixels: a frame; weights over descriptions and classes"


@dataclass(frozen=True)
class Config:
    """Options.

    Args:
        residual: learn the exchange between classes, which is most of the gain where classes resemble each other, and
            can harm where there are few.
        head_lr: rate of the weights over descriptions and classes, in SGD beside the frame's.
        inner: side of the image inside the frame in pixels; None for 192 of 224, in whole patches on fine grids.
        m: descriptions per class; None for 20, or as many as the poorest class has.
        min_length: characters of a usable description.
        description_seed: of the draw.
        replacement: "needed", "never", or the published rule "reference".
        rng: stream of the draw, "own" or "reference".
        lr, batch_size, epochs: of SGD with a cosine per step.
        chunk: views per pass of the image tower, to bound memory; None for all at once.
    """

    residual: bool = True
    head_lr: float = 1e-3
    inner: int | None = None
    m: int | None = None
    min_length: int = 8
    description_seed: int = 1
    replacement: Replacement = "needed"
    rng: Stream = "own"
    lr: float = 10.0
    batch_size: int = 32
    epochs: int = 50
    chunk: int | None = None


def build(clip: CLIP, classes: ClassSet, config: Config = Config()) -> Recipe:
    if not config.head_lr > 0:
        raise ValueError(f"rvp: head_lr must be above 0, got {config.head_lr}.")
    phrasing = DescriptionPhrasing(
        (DESCRIBING,),
        config.m,
        config.description_seed,
        replacement=config.replacement,
        rng=config.rng,
        min_length=config.min_length,
    )
    head = RVPHead(len(classes), sum(phrasing.sizes(classes)), config.residual)
    adapter = Adapter(clip, classes, phrasing, PixelFrame(clip, config.inner), head, chunk=config.chunk)
    learned = stage(config.epochs, config.batch_size, config.lr, factors={"head.": config.head_lr / config.lr})
    return Recipe(adapter, [learned], flags=flags("rvp", classes))
