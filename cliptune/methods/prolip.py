"""ProLIP: the map behind the image tower, kept near where it was.  (arXiv:2410.05270)"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from cliptune.adapter import Adapter, Outputs
from cliptune.batch import Batch
from cliptune.clip.model import CLIP
from cliptune.clip.ports import Ports, check_open
from cliptune.heads.counting import CountingHead
from cliptune.objectives import WeightedLoss
from cliptune.objectives.proximal import proximal
from cliptune.prompts.projection import TunedProjection
from cliptune.recipe import OptimiserConfig, Recipe, Stage
from cliptune.texts import ClassSet, TemplatePhrasing, ensemble

PAPER = "2410.05270"
ENTERS = "image.projection"
# Share of the area of random crops, as released.
CROP = (0.5, 1.0)
# The release's files hold the map alone, under its own name.
PUBLISHED_BARE = True


@dataclass(frozen=True)
class Config:
    """Options.

    Args:
        weight: λ ≥ 0 of the squared distance from the frozen map; None for 1/N with N training images per class, which
            needs no validation images.
        sentence: template of the class texts; "" for the data set's own. The release notes that "a photo of a {}." is
            better for classes to come.
        templates: an ensemble in place of the sentence: "selected7", "promptsrc60", "imagenet80"; "" for none.
        lr: of Adam with a cosine per epoch and no weight decay; 1e-5 to 1e-2 differ little, as the paper has it.
        batch_size: as released, all images of an epoch make one step; larger training sets take several.
        epochs: each sees one new view of every image.
        chunk: images that pass the tower together.
    """

    weight: float | None = None
    sentence: str = ""
    templates: str = ""
    lr: float = 1e-5
    batch_size: int = 4096
    epochs: int = 300
    chunk: int = 256


class Moved:
    """What the loss is told of a step: how far the map is from the frozen one, and images per class."""

    def __init__(self, per_class: float) -> None:
        self.per_class = per_class
        self.square: Tensor | None = None

    def complete(self, ports: Ports, out: Outputs) -> None:
        """The forward pass is done, with these ports."""
        self.square = ports.image.projection["first"].square().sum()


@contextmanager
def moved(adapter: Adapter, batch: Batch) -> Iterator[Moved]:
    """What `Adapter.extras` holds."""
    assert isinstance(adapter.head, CountingHead)
    yield Moved(adapter.head.per_class)


def build(clip: CLIP, classes: ClassSet, config: Config = Config()) -> Recipe:
    if config.weight is not None and not 0 <= config.weight < math.inf:
        raise ValueError(f"prolip: weight must be at least 0, or None for one over the shots, got {config.weight}.")
    check_open("prolip", clip.image, "image", ["projection"])
    frozen = clip.image.last_map
    assert frozen is not None  # what is open there has a map
    own = (config.sentence,) if config.sentence else ()
    phrasing = TemplatePhrasing(ensemble(config.templates) if config.templates else own)
    adapter = Adapter(clip, classes, phrasing, TunedProjection(frozen), CountingHead(), chunk=config.chunk)
    adapter.extras["moved"] = moved
    optimiser = OptimiserConfig(lr=config.lr, name="adam", weight_decay=0.0, eps=1e-4, warmup_epochs=0)
    loss = WeightedLoss(proximal, needs={"moved"}, weight=config.weight)
    train = Stage(loss, config.epochs, config.batch_size, optimiser, crop=CROP, keep_last=True)
    count = Stage(None, epochs=1, batch_size=100, optimiser=None, name="count the images", augment=False)
    return Recipe(adapter, [train] if config.weight is not None else [count, train])


def published_name(name: str) -> str:
    """Name of a learnable in the released checkpoint of a ViT; those of ResNets are not read."""
    return {"prompt.map.value": "vit_proj", "head.images": None, "head.classes": None}[name]  # type: ignore[return-value]


def published_options(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """Options that a released state dict implies: none."""
    tensors["vit_proj"]
    return {}
