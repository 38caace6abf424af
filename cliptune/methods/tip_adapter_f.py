"""Tip-Adapter-F: the cache of training images, whose keys are then trained.  (arXiv:2207.09519)"""

from __future__ import annotations

from dataclasses import dataclass

from cliptune.clip.model import CLIP
from cliptune.methods import tip_adapter
from cliptune.objectives import WeightedLoss, cross_entropy
from cliptune.recipe import OptimiserConfig, Recipe, Stage
from cliptune.texts import ClassSet

PAPER = "2207.09519"
ENTERS = "nowhere; a learned cache of image features in the head"


@dataclass(frozen=True)
class Config(tip_adapter.Config):
    """Options: those of Tip-Adapter, and of the training of its keys, one of size D for each training image.

    Args:
        alpha, beta: weight and sharpness of the cache while the keys are trained.
        search: look for better ones on the validation images afterwards, if there are any.
        alpha_max, beta_max: ends of the search, which starts at 0.1.
        views: augmented views of each training image, whose embeddings are averaged into its first key.
        templates: "" for the data set's own sentence, or an ensemble: "selected7", "promptsrc60", "imagenet80".
        lr, batch_size, epochs: of AdamW with a cosine per step. The last epoch is kept; the release takes the best one
            on test images.
    """

    lr: float = 1e-3
    batch_size: int = 256
    epochs: int = 20


def build(clip: CLIP, classes: ClassSet, config: Config = Config()) -> Recipe:
    optimiser = OptimiserConfig(lr=config.lr, name="adamw", weight_decay=1e-2, eps=1e-4, per="step", warmup_epochs=0)
    train = Stage(
        WeightedLoss(cross_entropy), config.epochs, config.batch_size, optimiser, crop=tip_adapter.CROP, keep_last=True
    )
    search = Stage(None, epochs=1, batch_size=100, optimiser=None, name="search", augment=False, observe=("val",))
    stages = [tip_adapter.filling(config, ("train",)), train, *([search] if config.search else [])]
    adapter = tip_adapter.cache_adapter(clip, classes, config, learn=True)
    return Recipe(adapter, stages, flags=tip_adapter.flags(config))
