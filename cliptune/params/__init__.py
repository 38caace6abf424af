"""What a learnable matrix is."""

from cliptune.params.full_rank import FullRank, Parameterisation
from cliptune.params.low_rank import LowRank

__all__ = ["FullRank", "LowRank", "Parameterisation"]
