"""MMLoP: deep tokens of low rank that both towers share a factor of, and texts without a drift.  (arXiv:2602.21397)

Block i of the text tower is given P_t = U V_t and that of the image tower P_v = U V_v: as both have the same number of
tokens, one U serves both, and is moved by the gradients of both. Features and answers are kept near those of the frozen
CLIP, whose texts are the mean of 60 sentences. From the texts is taken what moved all of them alike.

Of the paper (v2), its abstract and notes on it told us the factors, the number of learned values, the anchors at
features and logits, the drift and the unit norm after it, rank, depths and numbers of epochs; its text and its
release were not at hand. After PromptSRC (arXiv:2307.06948), on which it builds, are therefore the distances and
their weights, the rate, the batches and the words. Our own choice is:

- how the factors start: U ~ N(0, 1 / r) and V ~ N(0, 0.02²), so that tokens are as large as elsewhere; the first text
  tokens are the matrix of rank r that is nearest to the words.
- the drift is that of unit features, and is taken off in training too, before the loss looks at the texts.
- for new classes, the drift is the mean over the classes asked about: no training image or class is needed. So an
  answer depends on the list of classes; one class alone is said as the frozen CLIP says it.
- prompts are not averaged over the epochs.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Literal, cast

import torch
from torch import Tensor

from cliptune.adapter import Adapter
from cliptune.clip.model import CLIP
from cliptune.heads import MeanHead
from cliptune.objectives import WeightedLoss, self_regularised
from cliptune.params import LowRank
from cliptune.params.low_rank import STD
from cliptune.prompts import DeepTokens, Together
from cliptune.prompts.depth import check_tokens, resolve_depth, shallower
from cliptune.recipe import OptimiserConfig, Recipe, Stage
from cliptune.texts import ClassSet, ContextPhrasing, TemplatePhrasing, ensemble
from cliptune.texts.phrasing import words_for

PAPER = "2602.21397"
ENTERS = "text.tokens, image.tokens, both of low rank"
PUBLISHED_DEPTH = 9


@dataclass(frozen=True)
class Config:
    """Options.

    Args:
        n_ctx: tokens per prompted block, of either tower.
        rank: r of every matrix, 1 ≤ r ≤ n_ctx.
        depth: prompted blocks of both towers; None for the paper's 9, or all of a shallower tower.
        shared: one U per block for both towers; False gives each its own.
        drift_correction: take off the texts what moved all of them alike.
        words: that the first text tokens start near, used if n_ctx is at most their number; else random.
        weight_text, weight_image, weight_logits: of the three distances to the frozen CLIP; 0 leaves one out.
        templates: ensemble behind the frozen text features: "promptsrc60", "imagenet80", "selected7", or "" for the
            data set's own sentence.
        lr, batch_size, epochs: of SGD with the field's schedule.
    """

    n_ctx: int = 4
    rank: int = 1
    depth: int | None = None
    shared: bool = True
    drift_correction: bool = True
    words: str = "a photo of a"
    weight_text: float = 25.0
    weight_image: float = 10.0
    weight_logits: float = 1.0
    templates: str = "promptsrc60"
    lr: float = 2.5e-3
    batch_size: int = 4
    epochs: int = 30


def build(clip: CLIP, classes: ClassSet, config: Config = Config()) -> Recipe:
    check_tokens("mmlop", "n_ctx", config.n_ctx)
    words, notes = words_for("mmlop", config.words, config.n_ctx)
    phrasing = ContextPhrasing(config.n_ctx, words)
    towers = {"text": clip.text, "image": clip.image}
    depth = min(resolve_depth("mmlop", name, tower, config.depth, PUBLISHED_DEPTH) for name, tower in towers.items())
    text = _tokens("text", clip.text.width, depth, config)
    image = _tokens("image", clip.image.width, depth, config)
    if words:
        _approach(cast(LowRank, text.layers[0]), phrasing.start(clip))
    if config.shared:
        for of_text, of_image in zip(text.layers, image.layers, strict=True):
            of_image.left = of_text.left
    # The sentences' features are averaged before they are normalised, as in PromptSRC's release.
    frozen = TemplatePhrasing(ensemble(config.templates) if config.templates else (), raw_mean=True)
    adapter = Adapter(
        clip,
        classes,
        phrasing,
        Together(text=text, image=image),
        MeanHead(),
        reference_phrasing=frozen,
        corrects_drift=config.drift_correction,
    )
    loss = WeightedLoss(
        self_regularised,
        needs={"reference"},
        text=config.weight_text,
        image=config.weight_image,
        logits=config.weight_logits,
    )
    notes += shallower("mmlop", config.depth, depth, PUBLISHED_DEPTH)
    stage = Stage(loss, config.epochs, config.batch_size, OptimiserConfig(lr=config.lr))
    return Recipe(adapter, [stage], notes=notes)


@torch.no_grad()
def _tokens(tower: Literal["text", "image"], width: int, depth: int, config: Config) -> DeepTokens:
    """Tokens U V at every block: U (n, r) ~ N(0, 1 / r) and V (r, d) ~ N(0, 0.02²)."""
    starts = [torch.zeros(config.n_ctx, width)] * depth
    tokens = DeepTokens(tower, starts, partial(LowRank, rank=config.rank))
    for layer in tokens.layers:
        cast(LowRank, layer).left.div_(STD * config.rank**0.5)
    return tokens


@torch.no_grad()
def _approach(matrix: LowRank, start: Tensor) -> None:
    """Let U V be the nearest matrix of its rank, with U as large as a random one is, for the sake of its partner."""
    left, values, right = torch.linalg.svd(start, full_matrices=False)
    rank = matrix.rank
    # The decomposition leaves the signs open, and those of U are also the image tokens'.
    sign = torch.where(left[:, :rank].sum(dim=0) < 0, -1, 1)
    size = sign * (len(start) / rank) ** 0.5
    matrix.left.copy_(left[:, :rank] * size)
    matrix.right.copy_(values[:rank, None] * right[:rank] / size[:, None])
