"""ATPrompt: attribute words, each behind learned tokens of its own, in front of the context.  (arXiv:2412.09442)"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from cliptune.prompts.attributed import AttributedTokens
from cliptune.recipe import Recipe
from cliptune.texts import ContextPhrasing
from cliptune.texts.attributed import AttributedPhrasing

PAPER = "2412.09442"
ENTERS = "text.tokens[0], in front of the host's"
# First of all: it adds words and tokens, which are parameters like the host's.
ORDER = 5
FOUND_FOR_IMAGENET = ("color", "shape")
STD = 0.01


@dataclass(frozen=True)
class Config:
    """Options.

    Args:
        atprompt_attributes: words such as color,shape, in the order in which they stand. None takes color and shape,
            which the paper's search found for ImageNet; recipes have those of the other data sets.
        atprompt_tokens: learned tokens in front of each word; None for as many as the host's context has.
    """

    atprompt_attributes: tuple[str, ...] | None = None
    atprompt_tokens: int | None = None


def build(recipe: Recipe, config: Config = Config()) -> Recipe:
    adapter = recipe.adapter
    phrasing, ports = adapter.phrasing, adapter.prompt().text
    if not isinstance(phrasing, ContextPhrasing) or 0 not in ports.tokens:
        raise ValueError(
            "atprompt: this host learns no context words for attributes to stand in front of. Use a host that does, "
            "such as coop or maple."
        )
    if phrasing.position != "end":
        raise ValueError(
            f"atprompt: attributes stand in front of a context whose class name is last, and the host's position is "
            f"{phrasing.position!r}. Use position='end'."
        )
    attributes = _attributes(config.atprompt_attributes)
    each = phrasing.n_ctx if config.atprompt_tokens is None else config.atprompt_tokens
    if each < 1:
        raise ValueError(f"atprompt: atprompt_tokens must be at least 1 learned token, got {each}.")
    if config.atprompt_attributes is None:
        recipe.notes += (
            f"atprompt: atprompt_attributes was left out and is {', '.join(attributes)}, found for ImageNet.",
        )
    starts = [STD * torch.randn(each, adapter.clip.text.width) for _ in attributes]
    adapter.prompt = AttributedTokens(adapter.prompt, starts)
    adapter.phrasing = AttributedPhrasing(phrasing, attributes, each)
    for stage in recipe.stages:
        if stage.optimiser is not None:
            stage.optimiser = stage.optimiser.moved("prompt.", "prompt.host.")
    adapter.set_classes(adapter.classes, seen=True)
    return recipe


def _attributes(given: tuple[str, ...] | None) -> tuple[str, ...]:
    if given is None:
        return FOUND_FOR_IMAGENET
    # A single word given on the command line is text, several are a list.
    words = tuple(" ".join(str(word).split()) for word in ([given] if isinstance(given, str) else given))
    if not words or not all(words):
        raise ValueError(
            f"atprompt: atprompt_attributes must be one word or more, such as color,shape, got {list(words)}. "
            "Leave it out for those."
        )
    return words
