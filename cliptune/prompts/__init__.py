"""Where learnable tensors enter CLIP: each prompt's forward gives ports."""

from cliptune.prompts.base import Prompt, Together
from cliptune.prompts.conditional import ConditionalTokens
from cliptune.prompts.coupled import CoupledTokens
from cliptune.prompts.pixels import PixelFrame, PixelOverlay
from cliptune.prompts.residual import TextResidual
from cliptune.prompts.tokens import DeepTokens, NoPrompt

__all__ = [
    "ConditionalTokens",
    "CoupledTokens",
    "DeepTokens",
    "NoPrompt",
    "PixelFrame",
    "PixelOverlay",
    "Prompt",
    "TextResidual",
    "Together",
]
