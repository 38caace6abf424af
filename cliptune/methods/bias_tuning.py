"""Bias tuning: vectors in the residual stream of every block, no prompts at all.  (arXiv:2312.11570)"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from cliptune.adapter import Adapter
from cliptune.clip.model import CLIP
from cliptune.heads import MeanHead
from cliptune.prompts import NoPrompt
from cliptune.prompts.bias import Groups
from cliptune.recipe import Recipe
from cliptune.texts import ClassSet, TemplatePhrasing
from cliptune.wrappers import bias

PAPER = "2312.11570"
ENTERS = "image.bias, text.bias"


@dataclass(frozen=True)
class Config:
    """Options. The same as `zeroshot+bias` but for the sentence.

    Args:
        towers: "both", "text" or "image".
        sites: "both", "attn_out" (after attention) or "mlp_out" (after the MLP).
        groups: "all" gives every token the same vector, "split" gives CLS and EOT one of their own.
        depth: biased blocks; None for all.
        budget: 1, 2 or 4 chooses sites and groups that cost what so many prompt tokens per block cost; None leaves
            them as given.
        sentence: template of the class texts; "" for the data set's own.
        lr, batch_size, epochs: of SGD with the field's schedule. Biases add to the residual stream directly, so the
            best rate differs from that of prompts.
    """

    towers: Literal["both", "text", "image"] = "both"
    sites: Literal["both", "attn_out", "mlp_out"] = "both"
    groups: Groups = "all"
    depth: int | None = None
    budget: int | None = None
    sentence: str = "a photo of a {}."
    lr: float = 3.5e-3
    batch_size: int = 4
    epochs: int = 5


def build(clip: CLIP, classes: ClassSet, config: Config = Config()) -> Recipe:
    phrasing = TemplatePhrasing((config.sentence,) if config.sentence else ())
    return bias.build(
        Recipe(Adapter(clip, classes, phrasing, NoPrompt(), MeanHead()), []),
        bias.Config(
            config.towers,
            config.sites,
            config.groups,
            config.depth,
            config.budget,
            config.lr,
            config.batch_size,
            config.epochs,
        ),
    )
