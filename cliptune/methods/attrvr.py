"""AttrVR: a frame, and for each image the nearest attributes of every class.  (arXiv:2501.13982)"""

from __future__ import annotations

from dataclasses import dataclass

from cliptune.adapter import Adapter
from cliptune.clip.model import CLIP
from cliptune.heads import NearestHead
from cliptune.prompts import PixelFrame
from cliptune.recipe import Recipe
from cliptune.texts import ClassSet, DescriptionPhrasing
from cliptune.texts.described import Replacement, Stream
from cliptune.texts.descriptions import DESCRIBING, DISTINGUISHING
from cliptune.visual import flags, stage

PAPER = "2501.13982"
ENTERS = "pixels: a frame"


@dataclass(frozen=True)
class Config:
    """Options.

    Args:
        nearest: k, attributes of each set that speak for a class; 1 is the maximum.
        weight: λ in [0, 1], share of the describing attributes; the distinguishing ones have the rest.
        inner: side of the image inside the frame in pixels; None for 192 of 224, in whole patches on fine grids.
        m: attributes per class and set; None for 20, or as many as the poorest class has.
        min_length: characters of a usable attribute.
        description_seed: of the draw.
        replacement: "needed", "never", or the published rule "reference".
        rng: stream of the draw, "own" or "reference".
        lr, batch_size, epochs: of SGD with a cosine per step.
        chunk: views per pass of the image tower, to bound memory; None for all at once.
    """

    nearest: int = 3
    weight: float = 0.5
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
    if not 0 <= config.weight <= 1:
        raise ValueError(f"attrvr: weight is the share of describing attributes, in [0, 1], got {config.weight}.")
    phrasing = DescriptionPhrasing(
        (DESCRIBING, DISTINGUISHING),
        config.m,
        config.description_seed,
        replacement=config.replacement,
        rng=config.rng,
        min_length=config.min_length,
    )
    head = NearestHead(config.nearest, (config.weight, 1 - config.weight))
    adapter = Adapter(clip, classes, phrasing, PixelFrame(clip, config.inner), head, chunk=config.chunk)
    return Recipe(adapter, [stage(config.epochs, config.batch_size, config.lr)], flags=flags("attrvr", classes))
