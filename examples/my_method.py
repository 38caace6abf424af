"""Anchored context: CoOp whose class texts may leave the hand-written ones by a free angle, and pay beyond it.

cliptune train --method examples/my_method.py --data tinyworld/objects --backbone mini
"""

from dataclasses import dataclass

import torch.nn.functional as F

from cliptune.adapter import Adapter
from cliptune.heads import MeanHead
from cliptune.objectives import WeightedLoss
from cliptune.prompts import DeepTokens
from cliptune.recipe import OptimiserConfig, Recipe, Stage
from cliptune.texts import ContextPhrasing

ENTERS = "text.tokens[0]"
LEARNABLES = 4 * 512  # at ViT-B/16 with the defaults


@dataclass(frozen=True)
class Config:
    n_ctx: int = 4
    weight: float = 10.0  # of the distance beyond `free`, 1 − cosine
    free: float = 0.02
    epochs: int = 50


def anchored(out, batch, progress, weight, free):
    ce = F.cross_entropy(out.logits, batch.labels)
    far = 1 - (out.text_features * out.reference.text_features).sum(-1)  # (1, K)
    return ce + weight * F.relu(far - free).mean(), {"ce": ce, "far": far.mean()}


def build(clip, classes, config=Config()):
    phrasing = ContextPhrasing(config.n_ctx, "a photo of a")
    adapter = Adapter(clip, classes, phrasing, DeepTokens("text", [phrasing.start(clip)]), MeanHead())
    loss = WeightedLoss(anchored, needs={"reference"}, weight=config.weight, free=config.free)
    return Recipe(adapter, [Stage(loss, config.epochs, 32, OptimiserConfig(lr=2e-3))])
