"""2SFS: LayerNorms of both towers first, then a classifier that starts at the texts they give.  (arXiv:2503.11609)"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from cliptune.adapter import Adapter
from cliptune.clip.model import CLIP
from cliptune.clip.ports import NORMS, check_open
from cliptune.heads.selective import SelectiveHead
from cliptune.objectives import WeightedLoss, cross_entropy
from cliptune.prompts.norms import TunedNorms
from cliptune.recipe import OptimiserConfig, Recipe, Stage
from cliptune.texts import ClassSet, TemplatePhrasing

PAPER = "2503.11609"
ENTERS = "image.norm, text.norm, then a prototype per class in the head"
TOWERS = {"both": ("image", "text"), "image": ("image",), "text": ("text",)}


@dataclass(frozen=True)
class Config:
    """Options.

    Args:
        towers: "both", "image" or "text": whose LayerNorms learn.
        ends: those in front of the first and behind the last block as well. The release lists them as trained and
            freezes them again (fs/utils/model_utils.py), so its numbers are of the blocks alone.
        share: α in (0, 1), of the epochs that the first stage takes; the rest is the classifier's.
        sentence: template of the class texts, the same for all data sets, as released; "" for the data set's own.
        steps_per_shot: M; as many epochs in both stages together as make about so many steps for each image of a
            class; 0 takes `epochs`.
        lr, batch_size, epochs: of AdamW with a cosine per step down to 1e-6, anew in each stage; epochs of both
            stages together, at least 2.
    """

    towers: Literal["both", "image", "text"] = "both"
    ends: bool = False
    share: float = 0.6
    sentence: str = "a photo of a {}."
    steps_per_shot: int = 0
    lr: float = 2e-4
    batch_size: int = 32
    epochs: int = 50


def build(clip: CLIP, classes: ClassSet, config: Config = Config()) -> Recipe:
    if config.towers not in TOWERS:
        raise ValueError(f"two_stage: towers must be one of {', '.join(TOWERS)}, got {config.towers!r}.")
    if not 0 < config.share < 1:
        raise ValueError(f"two_stage: share must be above 0 and below 1, got {config.share}.")
    towers = {name: getattr(clip, name) for name in TOWERS[config.towers]}
    for name, tower in towers.items():
        check_open("two_stage", tower, name, ["norm"])
    sites = NORMS if config.ends else ("attn", "mlp")
    prompt = TunedNorms(
        {name: {at: norm for at, norm in tower.norms.items() if at[1] in sites} for name, tower in towers.items()}
    )
    phrasing = TemplatePhrasing((config.sentence,) if config.sentence else ())
    head = SelectiveHead(len(classes), clip.image.embed, float(clip.scale))
    adapter = Adapter(clip, classes, phrasing, prompt, head)
    epochs = config.epochs
    if config.steps_per_shot:
        # An epoch of K images for each of C classes has C K / batch steps: the shots drop out.
        epochs = round(config.steps_per_shot * config.batch_size / len(classes))
    first = max(1, round(config.share * epochs))
    optimiser = OptimiserConfig(lr=config.lr, name="adamw", weight_decay=1e-2, per="step", warmup_epochs=0, min_lr=1e-6)
    stages = [
        Stage(WeightedLoss(cross_entropy), count, config.batch_size, optimiser, name, keep_last=True, before=before)
        for name, count, before in (("norms", first, ()), ("classifier", max(1, epochs - first), (_open,)))
    ]
    stages[1].after_epoch = (_thaw,)
    return Recipe(adapter, stages)


def _open(adapter: Adapter) -> None:
    """What was learned in the first stage stays; its texts are where the classifier begins."""
    assert isinstance(adapter.head, SelectiveHead)
    with adapter.evaluating():
        text = adapter.text_features()
    if text is None:
        raise ValueError("two_stage: the classifier starts at texts that do not depend on the image. Leave them fixed.")
    adapter.head.open(text[0])
    adapter.prompt.requires_grad_(False)


def _thaw(adapter: Adapter, epoch: int, epochs: int) -> None:
    """When all is done, both stages' values count as learned."""
    if epoch == epochs - 1:
        adapter.prompt.requires_grad_(True)
