"""CLAP: a probe from the class texts, each prototype held as firmly as its text is right.  (arXiv:2312.12730)"""

from __future__ import annotations

from dataclasses import dataclass

from cliptune.clip.model import CLIP
from cliptune.methods import zs_probe
from cliptune.recipe import Recipe
from cliptune.texts import ClassSet

PAPER = "2312.12730"
ENTERS = zs_probe.ENTERS


@dataclass(frozen=True)
class Config(zs_probe.Config):
    """Options: those of ZS-LP. How firmly each class is held is read from the training images.

    Args:
        views: augmented views of each training image, each a feature of its own, as released with 20; 0 for the image
            itself, which is better where crops and flips change what an image means.
        lr, batch_size, epochs: of SGD with a cosine, over features that are computed once.
        templates: "" for the data set's own sentence, or an ensemble: "selected7", "promptsrc60", "imagenet80".
    """


def build(clip: CLIP, classes: ClassSet, config: Config = Config()) -> Recipe:
    return zs_probe.probe("clap", clip, classes, config, constrained=True)
