"""Looking inside: nothing above imports this room, and nothing is paid for while it is not used."""

from cliptune.analysis.alignment import TokenContributions, TokenEffects, token_contributions, token_effects
from cliptune.analysis.attention import GroupAttention, HeadReach, Reach, attention_by_group, attention_reach
from cliptune.analysis.channels import ChannelInvariance, Channels, channel_invariance, compare_channels
from cliptune.analysis.confusion import Confusion, confusion
from cliptune.analysis.foreground import Foreground, foreground
from cliptune.analysis.looking import look
from cliptune.analysis.mixing import Linearity, MixingCurve, linearity, mixing_curve
from cliptune.analysis.overlays import Overlays, overlays
from cliptune.analysis.patches import PatchSimilarity, patch_similarity
from cliptune.analysis.prm import Redundancy, Weighing, contributions, redundancy, remarks, weighing
from cliptune.analysis.profile import ContributionProfile, contribution_profile
from cliptune.analysis.record import AttentionMap, Recording, record
from cliptune.analysis.rescaling import Ablations, PromptParts, ablating, ablations, prompt_parts
from cliptune.analysis.risk import RiskCheck, risk_check
from cliptune.analysis.spectrum import RankHistory, Spectrum, rank_history, spectrum
from cliptune.analysis.taps import Attended, tapped
from cliptune.analysis.words import Words, nearest_words

__all__ = [
    "Ablations",
    "Attended",
    "AttentionMap",
    "ChannelInvariance",
    "Channels",
    "Confusion",
    "ContributionProfile",
    "Foreground",
    "GroupAttention",
    "HeadReach",
    "Linearity",
    "MixingCurve",
    "Overlays",
    "PatchSimilarity",
    "PromptParts",
    "RankHistory",
    "Reach",
    "Recording",
    "Redundancy",
    "RiskCheck",
    "Spectrum",
    "TokenContributions",
    "TokenEffects",
    "Weighing",
    "Words",
    "ablating",
    "ablations",
    "attention_by_group",
    "attention_reach",
    "channel_invariance",
    "compare_channels",
    "confusion",
    "contribution_profile",
    "contributions",
    "foreground",
    "linearity",
    "look",
    "mixing_curve",
    "nearest_words",
    "overlays",
    "patch_similarity",
    "prompt_parts",
    "rank_history",
    "record",
    "redundancy",
    "remarks",
    "risk_check",
    "spectrum",
    "tapped",
    "token_contributions",
    "token_effects",
    "weighing",
]
