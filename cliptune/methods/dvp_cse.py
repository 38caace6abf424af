"""DVP-cse: one frame per cause, descriptions reweighted by votes of training images.  (arXiv:2506.01000)"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from cliptune.adapter import Adapter
from cliptune.clip.model import CLIP
from cliptune.heads import Head, NearestHead, PRMHead
from cliptune.prompts import PixelFrame
from cliptune.recipe import Recipe
from cliptune.texts import ClassSet, DescriptionPhrasing
from cliptune.texts.described import Replacement, Stream
from cliptune.visual import causes_of, flags, stage, stages_with_prm

PAPER = "2506.01000"
ENTERS = "pixels: a frame per cause"


@dataclass(frozen=True)
class Config:
    """Options.

    Args:
        causes: sets of descriptions, one pattern for each; empty for all there are.
        decoupled: a pattern per cause; false for one pattern that all descriptions share.
        reweight: "prm", or for comparison "mean" or "max" over each class's descriptions.
        votes: k, descriptions of its class that each training image votes for.
        smoothing: strength of PRM's uniform prior in votes; "auto" for none from 16 shots on, else the likeliest.
        inner: side of the image inside the frame in pixels; None for 192 of 224, in whole patches on fine grids.
        m: descriptions per class and cause; None for 20, or as many as the poorest class has.
        min_length: characters of a usable description.
        description_seed: of the draw.
        replacement: "needed", "never", or the published rule "reference".
        rng: stream of the draw, "own" or "reference".
        lr, batch_size, epochs: of SGD with a cosine per step; with PRM the first epoch only counts votes.
        chunk: views per pass of the image tower, to bound memory; None for all at once.
    """

    causes: tuple[str, ...] = ()
    decoupled: bool = True
    reweight: Literal["prm", "mean", "max"] = "prm"
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
    causes = causes_of("dvp_cse", classes, tuple(config.causes), most=3 if not classes.descriptions else 99)
    phrasing = DescriptionPhrasing(
        causes,
        config.m,
        config.description_seed,
        views=tuple(range(len(causes))) if config.decoupled else None,
        replacement=config.replacement,
        rng=config.rng,
        min_length=config.min_length,
    )
    head: Head
    if config.reweight == "prm":
        head = PRMHead(len(classes), sum(phrasing.sizes(classes)), config.votes, config.smoothing)
        stages = stages_with_prm(config.epochs, config.batch_size, config.lr)
    else:
        head = NearestHead(1 if config.reweight == "max" else None)
        stages = [stage(config.epochs, config.batch_size, config.lr)]
    prompt = PixelFrame(clip, config.inner, patterns=len(causes) if config.decoupled else 1)
    adapter = Adapter(clip, classes, phrasing, prompt, head, chunk=config.chunk)
    return Recipe(adapter, stages, flags=flags("dvp_cse", classes))
