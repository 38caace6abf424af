"""Looking inside: nothing above imports this room, and nothing is paid for while it is not used."""

from cliptune.analysis.alignment import TokenContributions, token_contributions
from cliptune.analysis.channels import ChannelInvariance, Channels, channel_invariance, compare_channels
from cliptune.analysis.foreground import Foreground, foreground
from cliptune.analysis.looking import look
from cliptune.analysis.mixing import Linearity, MixingCurve, linearity, mixing_curve
from cliptune.analysis.overlays import Overlays, overlays
from cliptune.analysis.prm import Redundancy, Weighing, contributions, redundancy, remarks, weighing
from cliptune.analysis.record import AttentionMap, Recording, record
from cliptune.analysis.risk import RiskCheck, risk_check
from cliptune.analysis.spectrum import RankHistory, Spectrum, rank_history, spectrum

__all__ = [
    "AttentionMap",
    "ChannelInvariance",
    "Channels",
    "Foreground",
    "Linearity",
    "MixingCurve",
    "Overlays",
    "RankHistory",
    "Recording",
    "Redundancy",
    "RiskCheck",
    "Spectrum",
    "TokenContributions",
    "Weighing",
    "channel_invariance",
    "compare_channels",
    "contributions",
    "foreground",
    "linearity",
    "look",
    "mixing_curve",
    "overlays",
    "rank_history",
    "record",
    "redundancy",
    "remarks",
    "risk_check",
    "spectrum",
    "token_contributions",
    "weighing",
]
