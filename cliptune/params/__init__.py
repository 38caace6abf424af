"""What a learnable matrix is."""

from cliptune.params.full_rank import FullRank, Parameterisation

__all__ = ["FullRank", "Parameterisation"]
