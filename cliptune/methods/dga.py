"""DGA: frames for levels of superclasses and for crops, whose votes are weighed.  (no arXiv id is known)

"Boosting Visual Reprogramming for CLIP with Dual Granularity Alignment", CVPR 2026, pp. 29347-29356. Written from its
formulas as others report them, neither the paper nor its release at hand. What they leave open is ours, and said to be
so where it stands.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from cliptune.adapter import Adapter
from cliptune.clip.model import CLIP
from cliptune.heads.granular import GranularHead
from cliptune.objectives import WeightedLoss
from cliptune.prompts.granular import GranularFrame
from cliptune.recipe import Recipe, Stage
from cliptune.texts import ClassSet
from cliptune.texts.descriptions import DESCRIBING
from cliptune.visual import DescribedConfig, flags, stage

PAPER = ""
ENTERS = "pixels: a frame per level and per scale of crops"


@dataclass(frozen=True)
class Config(DescribedConfig):
    """Options. An image costs 1 + levels + scales · crops passes of the image tower; `chunk` bounds the memory.

    Args:
        levels: L, levels of superclasses above the classes, with a frame each; 0 leaves the hierarchy out.
        scales: E, sizes of crops, with a frame each; 0 leaves the crops out. crops: of each size.
        step: Δ in pixels, by which crops of each scale are smaller than those before; None for a sixth of the image
            inside the frame.
        weight: λ in [0, 1], share of the hierarchy's votes; the crops have the rest.
        threshold: H_0 in (0, 1], entropy from which on a crop does not count, as a share of the largest one, ln C.
        nearest: k, descriptions nearest to a view that speak for a class.
    """

    levels: int = 2
    scales: int = 2
    crops: int = 4
    step: int | None = None
    weight: float = 0.7
    threshold: float = 0.5
    nearest: int = 3


def hierarchical(out: Any, batch: Any, progress: float, head: GranularHead) -> tuple[Tensor, dict[str, Tensor]]:
    """L = L_sub + L_hier: cross-entropy of the classes, and the mean over the levels of that of their superclasses."""
    ce = F.cross_entropy(out.logits, batch.labels)
    if not head.levels:
        return ce, {"ce": ce}
    scores = head.level_logits(out.similarity, out.texts)  # (B, L, C)
    above = F.cross_entropy(scores.flatten(0, 1), head.member[:, batch.labels].T.flatten())
    return ce + above, {"ce": ce, "hierarchy": above}


def build(clip: CLIP, classes: ClassSet, config: Config = Config()) -> Recipe:
    shape = (config.levels, config.scales, config.crops)
    prompt = GranularFrame(clip, config.inner, *shape, config.step)
    head = GranularHead(len(classes), *shape, config.weight, config.threshold, config.nearest)
    adapter = Adapter(clip, classes, config.phrasing((DESCRIBING,)), prompt, head, chunk=config.chunk)
    learned = replace(stage(config), objective=WeightedLoss(hierarchical, head=head), before=(partial(_bare, False),))
    grouping = Stage(
        None, 1, config.batch_size, None, name="group the classes", augment=False, before=(partial(_bare, True),)
    )
    stages = [grouping, learned] if config.levels else [learned]
    return Recipe(adapter, stages, flags=flags("dga", classes))


def _bare(bare: bool, adapter: Adapter) -> None:
    """Show images without frames, or with them."""
    for part in adapter.prompt.modules():
        if isinstance(part, GranularFrame):
            part.bare = bare
