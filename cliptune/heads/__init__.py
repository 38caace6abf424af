"""How texts vote: similarity to logits."""

from cliptune.heads.base import Head
from cliptune.heads.cache import CacheHead
from cliptune.heads.folded import FoldedClassifier
from cliptune.heads.gaussian import GaussianHead
from cliptune.heads.kernel import KernelHead
from cliptune.heads.linear import LinearHead
from cliptune.heads.lp_plus_plus import LPPlusPlusHead
from cliptune.heads.mean import MeanHead
from cliptune.heads.nearest import NearestHead
from cliptune.heads.prm import PRMHead
from cliptune.heads.probe import ProbeHead
from cliptune.heads.refined import CategoryResidualHead, RefinedHead
from cliptune.heads.rvp import RVPHead
from cliptune.heads.ss_text import SSTextHead
from cliptune.heads.stream import StreamHead
from cliptune.heads.transfer import TransferHead

__all__ = [
    "CacheHead",
    "CategoryResidualHead",
    "FoldedClassifier",
    "GaussianHead",
    "Head",
    "KernelHead",
    "LPPlusPlusHead",
    "LinearHead",
    "MeanHead",
    "NearestHead",
    "PRMHead",
    "ProbeHead",
    "RVPHead",
    "RefinedHead",
    "SSTextHead",
    "StreamHead",
    "TransferHead",
]
