"""CLIP-LoRA: low-rank changes of queries, keys and values in both towers.  (arXiv:2405.18541)"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from cliptune.adapter import Adapter
from cliptune.clip.model import CLIP
from cliptune.clip.ports import called
from cliptune.heads import MeanHead
from cliptune.objectives import WeightedLoss, cross_entropy
from cliptune.prompts.deltas import LowRankDeltas
from cliptune.recipe import OptimiserConfig, Recipe, Stage
from cliptune.texts import ClassSet, TemplatePhrasing

PAPER = "2405.18541"
ENTERS = "image.delta, text.delta"
TOWERS = {"both": ("image", "text"), "image": ("image",), "text": ("text",)}


@dataclass(frozen=True)
class Config:
    """Options.

    Args:
        rank: r. alpha: the change is scaled by α / √r, as released.
        dropout: on the input of the added path, in training.
        towers: "both", "image" or "text".
        projections: letters of the maps that change, of "qkv".
        sentence: template of the class texts, the same for all data sets, as released.
        steps_per_shot: as many epochs as make about so many steps for each image of a class; 0 takes `epochs`.
        lr, batch_size, epochs: of AdamW with a cosine per step down to 1e-6.
    """

    rank: int = 2
    alpha: float = 1.0
    dropout: float = 0.25
    towers: Literal["both", "image", "text"] = "both"
    projections: str = "qkv"
    sentence: str = "a photo of a {}."
    steps_per_shot: int = 0
    lr: float = 2e-4
    batch_size: int = 32
    epochs: int = 50


def build(clip: CLIP, classes: ClassSet, config: Config = Config()) -> Recipe:
    if config.towers not in TOWERS:
        raise ValueError(f"clip_lora: towers must be one of {', '.join(TOWERS)}, got {config.towers!r}.")
    sizes = {}
    for name in TOWERS[config.towers]:
        tower = getattr(clip, name)
        if not hasattr(tower, "layers"):
            raise ValueError(
                f"clip_lora: the {name} tower of this backbone is a {called(tower)}, which has no attention "
                "blocks to change. Use a ViT backbone, or towers='text'."
            )
        sizes[name] = (tower.layers, tower.width)
    prompt = LowRankDeltas(sizes, config.rank, config.alpha, config.dropout, tuple(config.projections))
    adapter = Adapter(clip, classes, TemplatePhrasing((config.sentence,)), prompt, MeanHead())
    optimiser = OptimiserConfig(lr=config.lr, name="adamw", weight_decay=1e-2, per="step", warmup_epochs=0, min_lr=1e-6)
    epochs = config.epochs
    if config.steps_per_shot:
        # An epoch of K images for each of C classes has C K / batch steps: the shots drop out.
        epochs = max(1, round(config.steps_per_shot * config.batch_size / len(classes)))
    return Recipe(adapter, [Stage(WeightedLoss(cross_entropy), epochs, config.batch_size, optimiser)])
