"""MMRL: tokens of one space in later blocks of both towers, read out beside the class.  (arXiv:2503.08497)"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from cliptune.adapter import Adapter
from cliptune.clip.model import CLIP
from cliptune.clip.ports import check_open
from cliptune.heads.fused import FusedHead
from cliptune.objectives import WeightedLoss
from cliptune.objectives.two_read_outs import two_read_outs
from cliptune.prompts.depth import check_tokens
from cliptune.prompts.representation import FreeProjection, Representation, SeparateMaps
from cliptune.recipe import OptimiserConfig, Recipe, Stage
from cliptune.texts import ClassSet, TemplatePhrasing

PAPER = "2503.08497"
ENTERS = "image.inserted, text.inserted, image.projection of a second read-out"
# The release's files hold the state of its whole model, under that model's names.
PUBLISHED_BARE = True
# The paper's first block, counted from 0, of twelve.
PUBLISHED_FIRST, PUBLISHED_BLOCKS = 5, 12
CROP = (0.5, 1.0)


@dataclass(frozen=True)
class Config:
    """Options.

    Args:
        n_tokens: representation tokens. dim: of their space.
        first: block, counted from 0, from which on both towers see them; None for the paper's 5 of 12, or as far into
            a tower of other depth.
        alpha: α in [0, 1], share of the class token in the loss and in answers about trained classes; the rest is the
            representation tokens'. Other classes are answered by the class token alone.
        weight: λ ≥ 0 of the distances to the frozen CLIP's features.
        sentence: template of the class texts; "" for the data set's own, as released.
        lr, batch_size, epochs: of AdamW with the field's schedule. warmup: its first epochs, at a rate of 1e-5.
    """

    n_tokens: int = 5
    dim: int = 512
    first: int | None = None
    alpha: float = 0.7
    weight: float = 1.0
    sentence: str = ""
    lr: float = 1e-3
    batch_size: int = 4
    epochs: int = 10
    warmup: int = 1


Maps = Callable[[int, int, int], nn.Module]


def build(clip: CLIP, classes: ClassSet, config: Config = Config()) -> Recipe:
    return assemble("mmrl", clip, classes, config, SeparateMaps, FreeProjection)


def assemble(
    who: str,
    clip: CLIP,
    classes: ClassSet,
    config: Config,
    maps: Maps,
    second: Callable[[Tensor], nn.Module],
    beta: float = 1.0,
) -> Recipe:
    """What MMRL and its successor share.

    Args: who: for errors. maps: of (dim, width, blocks). second: of the frozen last map. beta: of `Representation`.
    """
    _check(who, clip, config)
    notes: tuple[str, ...] = ()
    first = {}
    towers: dict[str, Any] = {"image": clip.image, "text": clip.text}
    for name, tower in towers.items():
        first[name], note = _first(who, name, tower.layers, config.first)
        notes += note
    frozen = clip.image.last_map
    assert frozen is not None  # what is open there has a map
    prompt = Representation(
        config.n_tokens,
        config.dim,
        first,
        {name: maps(config.dim, tower.width, tower.layers - first[name]) for name, tower in towers.items()},
        second(frozen),
        beta,
    )
    phrasing = TemplatePhrasing((config.sentence,) if config.sentence else ())
    adapter = Adapter(clip, classes, phrasing, prompt, FusedHead(config.alpha), reference_phrasing=phrasing)
    loss = WeightedLoss(two_read_outs, needs={"reference"}, alpha=config.alpha, weight=config.weight)
    optimiser = OptimiserConfig(lr=config.lr, name="adamw", warmup_epochs=config.warmup)
    return Recipe(adapter, [Stage(loss, config.epochs, config.batch_size, optimiser, crop=CROP)], notes=notes)


def _check(who: str, clip: CLIP, config: Config) -> None:
    check_tokens(who, "n_tokens", config.n_tokens)
    if config.dim < 1:
        raise ValueError(f"{who}: dim must be at least 1, got {config.dim}.")
    if not 0 <= config.alpha <= 1:
        raise ValueError(f"{who}: alpha must be between 0 and 1, got {config.alpha}.")
    if not 0 <= config.weight < math.inf:
        raise ValueError(f"{who}: weight must be a number of at least 0, got {config.weight}.")
    if config.warmup < 0:
        raise ValueError(f"{who}: warmup must be at least 0 epochs, got {config.warmup}.")
    check_open(who, clip.image, "image", ["inserted", "projection"])
    check_open(who, clip.text, "text", ["inserted"])


def _first(who: str, name: str, blocks: int, first: int | None) -> tuple[int, tuple[str, ...]]:
    if first is not None:
        if not 0 <= first < blocks:
            raise ValueError(
                f"{who}: first must be a block from 0 to {blocks - 1} of the {name} tower, or None, got {first}."
            )
        return first, ()
    found = blocks * PUBLISHED_FIRST // PUBLISHED_BLOCKS
    if blocks == PUBLISHED_BLOCKS:
        return found, ()
    return found, (
        f"{who}: first was left out and is {found} of the {blocks} blocks of the {name} tower, as the paper's "
        f"{PUBLISHED_FIRST} of {PUBLISHED_BLOCKS}.",
    )


RELEASED_TOWERS = {"image": "r2vproj", "text": "r2tproj"}


def published_name(name: str) -> str:
    """Name of a learnable in the released code's state dict."""
    if name == "prompt.space.value":
        return "representation_learner.compound_rep_tokens"
    if name == "prompt.second.value":
        return "image_encoder.proj_rep"
    _, _, tower, _, layer, part = name.split(".")
    return f"representation_learner.compound_rep_tokens_{RELEASED_TOWERS[tower]}.{layer}.{part}"


def published_options(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """Options that a released state dict implies; the first block is not among them."""
    n_tokens, dim = tensors["representation_learner.compound_rep_tokens"].shape
    return {"n_tokens": n_tokens, "dim": dim}
