"""Pure losses."""

from cliptune.objectives.base import LossFunction, WeightedLoss
from cliptune.objectives.cross_entropy import cross_entropy
from cliptune.objectives.knowledge_guided import knowledge_guided

__all__ = ["LossFunction", "WeightedLoss", "cross_entropy", "knowledge_guided"]
