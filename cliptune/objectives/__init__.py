"""Pure losses."""

from cliptune.objectives.base import LossFunction, WeightedLoss
from cliptune.objectives.cross_entropy import cross_entropy

__all__ = ["LossFunction", "WeightedLoss", "cross_entropy"]
