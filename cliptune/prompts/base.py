"""What a prompt is, and how several stand side by side."""

from __future__ import annotations

from functools import reduce
from typing import Protocol, runtime_checkable

from torch import nn

from cliptune.clip.ports import Ports, compose


class Prompt(nn.Module):
    """What is learned and where it enters: forward gives the ports.

    `class_specific`: true if it holds one matrix per class, so that it cannot speak of other classes.
    `in_embedding_space`: true if it adds to, or maps, features as its backbone makes them.
    `resolution`: side in pixels of the images it wants to be given; None for the tower's.
    `map_names`: submodules that turn one prompt, or a feature, into another and enter no tower themselves.
    `notes`: what it chose by itself where an option was left out, a sentence each.
    """

    class_specific = False
    in_embedding_space = False
    resolution: int | None = None
    map_names: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def forward(self, seen: bool = True) -> Ports:
        """The ports of this step. `seen`: is the class set the one trained on?"""
        raise NotImplementedError


@runtime_checkable
class MixedPrompt(Protocol):
    """A prompt that is two, mixed in evaluation with a weight that can be chosen.

    `weight`: ω in [0, 1] to use whatever the classes; None lets them decide.
    """

    weight: float | None

    def evaluation_weight(self, seen: bool) -> float:
        """The ω that is used for trained classes, or for others. Raises: ValueError if `weight` is out of range."""
        ...


class Together(Prompt):
    """Several prompts side by side. Raises (forward): ValueError if two write one leaf.

    Args:
        prompts: by name; the names appear in checkpoints.
    """

    def __init__(self, **prompts: Prompt) -> None:
        super().__init__()
        self.parts = nn.ModuleDict(prompts)
        self.class_specific = any(prompt.class_specific for prompt in prompts.values())
        self.resolution = next((prompt.resolution for prompt in prompts.values() if prompt.resolution), None)

    def forward(self, seen: bool = True) -> Ports:
        entering: list[Ports] = [prompt(seen) for prompt in self.parts.values()]
        return reduce(compose, entering)
