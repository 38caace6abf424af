"""Looking inside: nothing above imports this room, and nothing is paid for while it is not used."""

from cliptune.analysis.alignment import TokenContributions, token_contributions
from cliptune.analysis.channels import ChannelInvariance, Channels, channel_invariance, compare_channels
from cliptune.analysis.mixing import Linearity, MixingCurve, linearity, mixing_curve
from cliptune.analysis.prm import Redundancy, Weighing, contributions, redundancy, remarks, weighing
from cliptune.analysis.record import AttentionMap, Recording, record

__all__ = [
    "AttentionMap",
    "ChannelInvariance",
    "Channels",
    "Linearity",
    "MixingCurve",
    "Recording",
    "Redundancy",
    "TokenContributions",
    "Weighing",
    "channel_invariance",
    "compare_channels",
    "contributions",
    "linearity",
    "mixing_curve",
    "record",
    "redundancy",
    "remarks",
    "token_contributions",
    "weighing",
]
