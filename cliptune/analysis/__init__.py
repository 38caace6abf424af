"""Looking inside: nothing above imports this room, and nothing is paid for while it is not used."""

from cliptune.analysis.alignment import TokenContributions, TokenEffects, token_contributions, token_effects
from cliptune.analysis.attention import GroupAttention, HeadReach, Reach, attention_by_group, attention_reach
from cliptune.analysis.confusion import Confusion, confusion
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
    "Confusion",
    "ContributionProfile",
    "GroupAttention",
    "HeadReach",
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
    "confusion",
    "contribution_profile",
    "contributions",
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
