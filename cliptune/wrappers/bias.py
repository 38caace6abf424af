"""Bias tuning beside any host: learned vectors in the residual stream of every block.  (arXiv:2312.11570)"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Literal

import torch

from cliptune.adapter import Adapter
from cliptune.clip.folding import BiasFold
from cliptune.clip.ports import SITES, Ports, called
from cliptune.clip.towers.image import Patched
from cliptune.objectives import WeightedLoss, cross_entropy
from cliptune.prompts import Prompt, Together
from cliptune.prompts.bias import Groups, LayerBias, TowerBias, matching_budget
from cliptune.prompts.depth import resolve_depth
from cliptune.recipe import OptimiserConfig, Recipe, Stage

PAPER = "2312.11570"
ENTERS = "image.bias, text.bias"
# Biases are parameters like others: they are there before anything acts on parameters or mixes them.
ORDER = 10
USUAL_LR = 3.5e-3


@dataclass(frozen=True)
class Config:
    """Options.

    Args:
        bias_towers: "both", "text" or "image".
        bias_sites: "both", "attn_out" (after attention) or "mlp_out" (after the MLP).
        bias_groups: "all" gives every token the same vector, "split" gives CLS and EOT one of their own.
        bias_depth: biased blocks; None for all.
        bias_budget: 1, 2 or 4 chooses sites and groups that cost what so many prompt tokens per block cost; None
            leaves them as given.
        bias_lr: rate of the biases. None takes the host's, but 3.5e-3 where there is none (zeroshot), and where the
            host learns pixels, whose rates of 10 and more would drive biases out of all bounds.
        bias_batch_size, bias_epochs: of SGD with the field's schedule, where the host has no training of its own;
            otherwise the host's are used.
    """

    bias_towers: Literal["both", "text", "image"] = "both"
    bias_sites: Literal["both", "attn_out", "mlp_out"] = "both"
    bias_groups: Groups = "all"
    bias_depth: int | None = None
    bias_budget: int | None = None
    bias_lr: float | None = None
    bias_batch_size: int = 4
    bias_epochs: int = 5


def build(recipe: Recipe, config: Config = Config()) -> Recipe:
    adapter = recipe.adapter
    if recipe.stages and all(stage.optimiser is None for stage in recipe.stages):
        raise ValueError(
            "bias: this host fits its head on the features of the frozen CLIP and takes no gradient steps, so biases "
            "would never learn. Use bias_tuning, or a host that is trained."
        )
    if config.bias_lr is not None and not config.bias_lr > 0:
        raise ValueError(f"bias: bias_lr must be above 0, got {config.bias_lr}. Leave it out for the usual rate.")
    ports = adapter.prompt()
    if ports.image.bias or ports.text.bias:
        raise ValueError("bias: this host has biases in its blocks already. Choose their places with its own options.")
    prompt = LayerBias(_places(adapter, config))
    several = [stage for stage in recipe.stages if stage.observe_views > 1]
    if several and config.bias_towers != "text":
        raise ValueError(
            f"bias: this host shows {several[0].observe_views} views of each image before it learns, which biases "
            "in the image tower would change all the time. Use views=1, or bias_towers='text'."
        )
    if ports.image.tokens:
        recipe.remarks += ("biases of the image tower overlap with what image tokens can do",)
    adapter.prompt = Together(host=adapter.prompt, bias=prompt)
    for stage in recipe.stages:
        if stage.optimiser is not None:
            stage.optimiser = stage.optimiser.moved("prompt.", "prompt.parts.host.")
    rate = config.bias_lr or USUAL_LR
    if config.bias_lr is None and (not recipe.stages or ports.pixels is not None):
        why = "the host learns pixels at another scale" if recipe.stages else "the host has no rate of its own"
        recipe.notes += (f"bias: bias_lr was left out and is {rate}, because {why}.",)
    if not recipe.stages:
        optimiser = OptimiserConfig(lr=rate)
        recipe.stages.append(Stage(WeightedLoss(cross_entropy), config.bias_epochs, config.bias_batch_size, optimiser))
    elif config.bias_lr is not None or ports.pixels is not None:
        for stage in recipe.stages:
            if stage.optimiser is not None:
                factors = {"prompt.parts.bias.": rate / stage.optimiser.lr, **stage.optimiser.factors}
                stage.optimiser = replace(stage.optimiser, factors=factors)
    return recipe


def _places(adapter: Adapter, config: Config) -> dict[str, TowerBias]:
    for name, value, known in (
        ("bias_towers", config.bias_towers, ("both", "text", "image")),
        ("bias_sites", config.bias_sites, ("both", *SITES)),
        ("bias_groups", config.bias_groups, ("all", "split")),
    ):
        if value not in known:
            raise ValueError(f"bias: {name} must be one of {', '.join(known)}, got {value!r}.")
    sites: tuple[str, ...] = SITES if config.bias_sites == "both" else (config.bias_sites,)
    groups = config.bias_groups
    if config.bias_budget is not None:
        sites, groups = matching_budget(config.bias_budget)
    chosen = ("text", "image") if config.bias_towers == "both" else (config.bias_towers,)
    places = {}
    for name in chosen:
        tower = getattr(adapter.clip, name)
        depth = resolve_depth("bias", name, tower, config.bias_depth, what="biases", instead="bias_towers='text'")
        kind = called(tower)
        if groups == "split" and isinstance(tower, Patched) and not tower.prefix:
            raise ValueError(
                f"bias: split groups give the class token a vector of its own, but the image tower of this backbone, "
                f"{kind}, has none. Use bias_groups='all', or bias_towers='text'."
            )
        places[name] = TowerBias(depth, tower.width, sites, groups)
    return places


class _WithoutBias(Prompt):
    """A prompt whose biases, for classes that are trained ones or for others, are folded into the frozen weights."""

    def __init__(self, prompt: Prompt, seen: bool, alike: bool) -> None:
        super().__init__()
        self.prompt, self.folded_for, self.alike = prompt, seen, alike
        self.class_specific, self.resolution = prompt.class_specific, prompt.resolution

    def forward(self, seen: bool = True) -> Ports:
        if seen != self.folded_for and not self.alike:
            raise ValueError(
                "folded: the biases were folded for "
                + ("trained classes" if self.folded_for else "new classes")
                + ", and this prompt has others for the classes asked about now. Set the classes before folding."
            )
        ports = self.prompt(seen)
        return replace(ports, image=replace(ports.image, bias={}), text=replace(ports.text, bias={}))


@torch.no_grad()
def _same_biases(prompt: Prompt) -> bool:
    """Whether trained classes and others get the same biases."""
    of = [
        {(tower, key): value for tower in ("image", "text") for key, value in getattr(prompt(seen), tower).bias.items()}
        for seen in (True, False)
    ]
    return all(torch.equal(of[0][key], of[1][key]) for key in of[0])


@contextmanager
def folded(adapter: Adapter) -> Iterator[Adapter]:
    """The adapter with its biases written into the frozen weights: same answers, no cost, for as long as it is open.

    Afterwards CLIP and adapter are what they were, bit for bit. Other adapters of the same CLIP see the biases
    meanwhile, and so does the frozen reference of this one.

    Raises: ValueError if there are no biases, if they are not the same for all tokens, or if the texts depend on the
        image; also where it is then asked about classes for which dpc mixes other biases.
    """
    with adapter.evaluating():
        ports, alike = adapter.prompt(seen=adapter.seen), _same_biases(adapter.prompt)
    if not ports.image.bias and not ports.text.bias:
        raise ValueError("folded: the adapter has no biases to fold. It costs nothing more as it is.")
    if ports.condition is not None and ports.text.bias:
        raise ValueError(
            "folded: the texts depend on the image, so text biases cannot be taken out of the prompt. "
            "Use the adapter as it is."
        )
    live = adapter.prompt
    with BiasFold(adapter.clip, ports.image, ports.text):
        adapter.prompt = _WithoutBias(live, adapter.seen, alike)
        adapter.forget()
        try:
            with adapter.evaluating():
                yield adapter
        finally:
            adapter.prompt = live
            adapter.forget()
