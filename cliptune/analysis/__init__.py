"""Looking inside: nothing above imports this room, and nothing is paid for while it is not used."""

from cliptune.analysis.alignment import TokenContributions, TokenEffects, token_contributions, token_effects
from cliptune.analysis.attention import GroupAttention, HeadReach, Reach, attention_by_group, attention_reach
from cliptune.analysis.channels import ChannelInvariance, Channels, channel_invariance, compare_channels
from cliptune.analysis.mixing import Linearity, MixingCurve, linearity, mixing_curve
from cliptune.analysis.patches import PatchSimilarity, patch_similarity
from cliptune.analysis.prm import Redundancy, Weighing, contributions, redundancy, remarks, weighing
from cliptune.analysis.profile import ContributionProfile, contribution_profile
from cliptune.analysis.record import AttentionMap, Recording, record
from cliptune.analysis.rescaling import Ablations, PromptParts, ablating, ablations, prompt_parts
from cliptune.analysis.taps import Attended, tapped
from cliptune.analysis.words import Words, nearest_words

__all__ = [
    "Ablations",
    "Attended",
    "AttentionMap",
    "ChannelInvariance",
    "Channels",
    "ContributionProfile",
    "GroupAttention",
    "HeadReach",
    "Linearity",
    "MixingCurve",
    "PatchSimilarity",
    "PromptParts",
    "Reach",
    "Recording",
    "Redundancy",
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
    "contribution_profile",
    "contributions",
    "linearity",
    "mixing_curve",
    "nearest_words",
    "patch_similarity",
    "prompt_parts",
    "record",
    "redundancy",
    "remarks",
    "tapped",
    "token_contributions",
    "token_effects",
    "weighing",
]
