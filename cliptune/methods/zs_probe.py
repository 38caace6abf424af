"""ZS-LP: a linear probe that starts at the class texts, under CLIP's own scale.  (arXiv:2312.12730)"""

from __future__ import annotations

from dataclasses import dataclass

from cliptune.adapter import Adapter
from cliptune.clip.model import CLIP
from cliptune.heads import ProbeHead
from cliptune.prompts import NoPrompt
from cliptune.recipe import Recipe, Stage
from cliptune.texts import ClassSet, TemplatePhrasing, ensemble

PAPER = "2312.12730"
ENTERS = "nowhere; a prototype per class in the head, which starts at its text"


@dataclass(frozen=True)
class Config:
    """Options.

    Args:
        views: augmented views of each training image, each a feature of its own, as released with 20; 0 for the image
            itself, which is better where crops and flips change what an image means.
        lr, batch_size, epochs: of SGD with a cosine, over features that are computed once.
        templates: "" for the data set's own sentence, or an ensemble: "selected7", "promptsrc60", "imagenet80".
    """

    views: int = 0
    lr: float = 0.1
    batch_size: int = 256
    epochs: int = 300
    templates: str = ""


def build(clip: CLIP, classes: ClassSet, config: Config = Config()) -> Recipe:
    return probe("zs_probe", clip, classes, config, constrained=False)


def probe(name: str, clip: CLIP, classes: ClassSet, config: Config, constrained: bool) -> Recipe:
    """A probe from the class texts, held near them or not."""
    if config.views < 0:
        raise ValueError(f"{name}: views must be at least 0 per training image, got {config.views}.")
    # The release averages an ensemble's embeddings as the tower gives them.
    phrasing = TemplatePhrasing(ensemble(config.templates) if config.templates else (), raw_mean=True)
    head = ProbeHead(
        len(classes), clip.image.embed, float(clip.scale), constrained, config.lr, config.batch_size, config.epochs
    )
    stage = Stage(
        None, epochs=1, batch_size=100, optimiser=None, name="fit the probe", augment=config.views > 0,
        observe_views=max(1, config.views), average_views=False, before=(_measure,),
    )  # fmt: skip
    return Recipe(Adapter(clip, classes, phrasing, NoPrompt(), head), [stage])


def _measure(adapter: Adapter) -> None:
    assert isinstance(adapter.head, ProbeHead)
    adapter.head.measure(adapter.text_lengths())
