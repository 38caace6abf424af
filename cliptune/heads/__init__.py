"""How texts vote: similarity to logits."""

from cliptune.heads.base import Head
from cliptune.heads.linear import LinearHead
from cliptune.heads.mean import MeanHead

__all__ = ["Head", "LinearHead", "MeanHead"]
