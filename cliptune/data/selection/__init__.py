"""Which part of a training set to keep: coreset selection for learning from a fraction of the data."""

from cliptune.data.selection.choose import SELECTIONS, budget, select
from cliptune.data.selection.pool import Pool

__all__ = ["SELECTIONS", "Pool", "budget", "select"]
