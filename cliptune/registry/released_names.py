"""How the released code names prompt tokens in the towers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def image_token_name(layer: int) -> str:
    """Image tokens at the input of a block, as named by the releases of VPT, IVLP and PromptSRC."""
    return "image_encoder.VPT" if layer == 0 else f"image_encoder.transformer.resblocks.{layer}.VPT_shallow"


def text_token_name(layer: int) -> str:
    """Text tokens at the input of a block, as named by the releases of IVLP and PromptSRC."""
    return "prompt_learner.ctx" if layer == 0 else f"text_encoder.transformer.resblocks.{layer}.VPT_shallow"


def deep_token_count(tensors: Mapping[str, Any], encoder: str) -> int:
    """Prompted blocks of one tower in a released state dict; block 0 is always one."""
    start = f"{encoder}.transformer.resblocks."
    return 1 + sum(key.startswith(start) and key.endswith(".VPT_shallow") for key in tensors)
