"""Pure losses."""

from cliptune.objectives.base import LossFunction, WeightedLoss
from cliptune.objectives.cross_entropy import cross_entropy
from cliptune.objectives.distillation import distillation
from cliptune.objectives.knowledge_guided import knowledge_guided
from cliptune.objectives.self_regularised import divergence, self_regularised

__all__ = [
    "LossFunction",
    "WeightedLoss",
    "cross_entropy",
    "distillation",
    "divergence",
    "knowledge_guided",
    "self_regularised",
]
