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
from cliptune.texts import ClassSet, DescriptionPhrasing
from cliptune.texts.described import Replacement, Stream
from cliptune.visual import causes_of, flags, stages_with_prm

PAPER = "2506.01000"
ENTERS = "pixels: a frame of four strips"


@dataclass(frozen=True)
class Config:
    """Options.

    Args:
        causes: four sets of descriptions, for the strips up, down, left and right; empty for the first four.
        gradient: "decoupled": each strip learns only from the scores of its own cause; "joint": from all, as in ar.
        votes: k, descriptions of its class that each training image votes for.
        smoothing: strength of PRM's uniform prior in votes; "auto" for none from 16 shots on, else the likeliest.
        inner: side of the image inside the frame in pixels; None for 192 of 224, in whole patches on fine grids.
        m: descriptions per class and cause; None for 20, or as many as the poorest class has.
        min_length: characters of a usable description.
        description_seed: of the draw.
        replacement: "needed", "never", or the published rule "reference".
        rng: stream of the draw, "own" or "reference".
        lr, batch_size, epochs: of SGD with a cosine per step; the first epoch only counts votes.
        chunk: views per pass of the image tower, to bound memory; None for all at once.
    """

    causes: tuple[str, ...] = ()
    gradient: Literal["decoupled", "joint"] = "decoupled"
    votes: int = 3
    smoothing: float | Literal["auto"] = "auto"
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
    causes = causes_of("dvplite", classes, tuple(config.causes), most=len(STRIPS))
    if len(causes) != len(STRIPS):
        raise ValueError(
            f"dvplite: the frame has four strips, one for each of four causes, but there are {len(causes)}: "
            f"{', '.join(causes)}. Use dvp_cse, which takes any number of causes."
        )
    phrasing = DescriptionPhrasing(
        causes,
        config.m,
        config.description_seed,
        views=tuple(range(len(causes))),
        replacement=config.replacement,
        rng=config.rng,
        min_length=config.min_length,
    )
    head = PRMHead(len(classes), sum(phrasing.sizes(classes)), config.votes, config.smoothing)
    prompt = PixelFrame(clip, config.inner, strips=config.gradient == "decoupled")
    adapter = Adapter(clip, classes, phrasing, prompt, head, chunk=config.chunk)
    stages = stages_with_prm(config.epochs, config.batch_size, config.lr)
    return Recipe(adapter, stages, flags=flags("dvplite", classes))
