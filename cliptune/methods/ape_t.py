"""APE-T: texts and a cache of training images, both moved by one learned residual per class.  (arXiv:2304.01195)"""

from __future__ import annotations

from dataclasses import dataclass

from cliptune.adapter import Adapter
from cliptune.clip.model import CLIP
from cliptune.heads import CategoryResidualHead
from cliptune.heads.refined import Search
from cliptune.methods import ape
from cliptune.objectives import WeightedLoss, cross_entropy
from cliptune.prompts import NoPrompt
from cliptune.recipe import OptimiserConfig, Recipe, Stage
from cliptune.texts import ClassSet, TemplatePhrasing, ensemble

PAPER = "2304.01195"
ENTERS = "nowhere; learned residuals of texts and of a cache of image features in the head"


@dataclass(frozen=True)
class Config:
    """Options.

    Args:
        alpha: α > 0, weight of the cache. beta: β > 0, its sharpness. Both while the residuals learn.
        share: of the channels that have a residual, above 0 and at most 1.
        balance: λ in [0, 1] of the channels' score: weight of the similarity between texts; 1 − λ is that of their
            variance.
        search: look for better α and β on the validation images afterwards, if there are any.
        alpha_max, beta_max: ends of the search, which starts at 0.1.
        views: augmented views of each training image, whose embeddings are averaged into its key, as released with 10;
            0 for the image itself.
        templates: "" for the data set's own sentence, or an ensemble: "selected7", "promptsrc60", "imagenet80".
        lr, eps, batch_size, epochs: of AdamW with a cosine per step. The last epoch is kept; the release takes the best
            one on validation images.
    """

    alpha: float = 2.0
    beta: float = 1.0
    share: float = 500 / 1024
    balance: float = 0.2
    search: bool = False
    alpha_max: float = 7.0
    beta_max: float = 7.0
    views: int = 0
    templates: str = ""
    lr: float = 1e-3
    eps: float = 1e-3
    batch_size: int = 256
    epochs: int = 30


def build(clip: CLIP, classes: ClassSet, config: Config = Config()) -> Recipe:
    search = Search(config.alpha_max, config.beta_max) if config.search else None
    head = CategoryResidualHead(
        len(classes), clip.image.embed, clip.scale, config.share, config.balance, config.alpha, config.beta, search
    )
    phrasing = TemplatePhrasing(ensemble(config.templates) if config.templates else ())
    adapter = Adapter(clip, classes, phrasing, NoPrompt(), head)
    optimiser = OptimiserConfig(
        lr=config.lr, name="adamw", weight_decay=0.1, eps=config.eps, per="step", warmup_epochs=0
    )
    train = Stage(
        WeightedLoss(cross_entropy), config.epochs, config.batch_size, optimiser, crop=ape.CROP, keep_last=True
    )
    look = Stage(None, epochs=1, batch_size=100, optimiser=None, name="search", augment=False, observe=("val",))
    stages = [ape.filling("ape_t", config, ("train",)), train, *([look] if config.search else [])]
    flags = {"validation_images": "chose α and β, where there were any"} if config.search else {}
    return Recipe(adapter, stages, flags=flags)
