"""Looking inside: nothing above imports this room, and nothing is paid for while it is not used."""

from cliptune.analysis.alignment import TokenContributions, token_contributions
from cliptune.analysis.prm import Redundancy, Weighing, contributions, redundancy, remarks, weighing
from cliptune.analysis.record import AttentionMap, Recording, record

__all__ = [
    "AttentionMap",
    "Recording",
    "Redundancy",
    "TokenContributions",
    "Weighing",
    "contributions",
    "record",
    "redundancy",
    "remarks",
    "token_contributions",
    "weighing",
]
