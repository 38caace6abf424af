"""MMRL++: MMRL with one map for all blocks, changed a little for each, and tokens that flow on.  (arXiv:2505.10088)"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Tensor

from cliptune.clip.model import CLIP
from cliptune.methods import mmrl
from cliptune.prompts.representation import NearProjection, SharedMaps
from cliptune.recipe import Recipe
from cliptune.texts import ClassSet

PAPER = "2505.10088"
ENTERS = mmrl.ENTERS
PUBLISHED_BARE = True


@dataclass(frozen=True)
class Config(mmrl.Config):
    """Options: those of MMRL, and

    Args:
        beta: β in (0, 1], share of a block's own tokens; the rest is what the block before made of the last ones.
        rank: of each block's change of the shared map. rank_projection: of the second read-out's change of the frozen
            one.
    """

    beta: float = 0.9
    rank: int = 4
    rank_projection: int = 64


def build(clip: CLIP, classes: ClassSet, config: Config = Config()) -> Recipe:
    if not 0 < config.beta <= 1:
        raise ValueError(f"mmrl_plus_plus: beta must be above 0 and at most 1, got {config.beta}.")
    for name in ("rank", "rank_projection"):
        if getattr(config, name) < 1:
            raise ValueError(f"mmrl_plus_plus: {name} must be at least 1, got {getattr(config, name)}.")
    return mmrl.assemble(
        "mmrl_plus_plus",
        clip,
        classes,
        config,
        partial(SharedMaps, rank=config.rank),
        partial(NearProjection, rank=config.rank_projection),
        config.beta,
    )


_FACTORS = {"left": "A", "right": "B"}


def published_name(name: str) -> str:
    """Name of a learnable in the released code's state dict."""
    if name == "prompt.space.value":
        return mmrl.published_name(name)
    if name.startswith("prompt.second.change."):
        return f"image_encoder.{_FACTORS[name.rpartition('.')[2]]}"
    _, _, tower, kind, *rest = name.split(".")
    shared = f"representation_learner.srra_{mmrl.RELEASED_TOWERS[tower]}"
    if kind == "weight":
        return f"{shared}.weight"
    return f"{shared}.srra.{rest[0]}." + ("bias" if kind == "shifts" else _FACTORS[rest[1]])


def published_options(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """Options that a released state dict implies; the first block and β are not among them."""
    return {
        **mmrl.published_options(tensors),
        "rank": tensors["representation_learner.srra_r2vproj.srra.0.A"].shape[1],
        "rank_projection": tensors["image_encoder.A"].shape[1],
    }
