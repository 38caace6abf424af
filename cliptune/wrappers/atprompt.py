"""ATPrompt: attribute words, each behind learned tokens of its own, in front of the context.  (arXiv:2412.09442)"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor

from cliptune.adapter import Adapter
from cliptune.clip.model import CLIP
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
PUBLISHED_ADVICE = ""
_TOKENS, _WORD = "prompt_learner.ctx_att", "prompt_learner.token_middle"


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


def hosted_name(name: str) -> str:
    """Where a learnable of the host stands once this is joined to it."""
    return name.replace("prompt.", "prompt.host.", 1)


def published_name(name: str) -> str | None:
    """Name of a learnable in the released code's state dict; None for the host's own."""
    start = "prompt.attributes."
    return f"{_TOKENS}{int(name.removeprefix(start).split('.')[0]) + 1}" if name.startswith(start) else None


def published_tensor(name: str, value: Tensor) -> Tensor:
    """A learnable as the release shapes it."""
    return value


def published_ballast(adapter: Adapter) -> dict[str, Tensor]:
    """The embeddings of the words, (C, 1, d) each, which the release writes and computes anew."""
    words = cast(AttributedPhrasing, adapter.phrasing).attributes
    ids = [_ids(adapter.clip, word)[:1] for word in words]
    rows = [adapter.clip.text.token_embedding(one).detach().float().cpu() for one in ids]
    classes = len(adapter.classes)
    return {f"{_WORD}{i + 1}": row.expand(classes, 1, -1).contiguous() for i, row in enumerate(rows)}


def published_options(tensors: Mapping[str, Tensor], clip: CLIP, given: Mapping[str, Any]) -> dict[str, Any]:
    """Options that a released state dict implies. Its words are those whose embeddings it holds.

    Args: given: options that are known already.
    Raises: ValueError where no word of one token has such an embedding, and no words are given.
    """
    tokens = tensors.get(f"{_TOKENS}1")
    options: dict[str, Any] = {} if tokens is None else {"atprompt_tokens": len(tokens)}
    held = [tensors[key] for key in (f"{_WORD}{i}" for i in range(1, 1 + len(tensors))) if key in tensors]
    if held and "atprompt_attributes" not in given:
        options["atprompt_attributes"] = tuple(_word(clip, embedding[0, 0]) for embedding in held)
    return options


def _ids(clip: CLIP, word: str) -> Tensor:
    texts = clip.tokenize([word])
    return texts.ids[0, texts.head : int(texts.eot[0])]


def _word(clip: CLIP, embedding: Tensor) -> str:
    """The word of one token with this embedding (d,)."""
    table = clip.text.token_embedding.weight.detach().float()
    distance = (table - embedding.to(table)).norm(dim=-1)
    nearest = int(distance.argmin())
    decode = getattr(clip.tokenizer, "decode", None)  # a tokenizer of one's own need not have it
    word = "" if decode is None else str(decode([nearest])).strip()
    # The release keeps the first token alone of a word of several, by which the word cannot be told.
    if not word or distance[nearest] > 1e-2 * table[nearest].norm() or _ids(clip, word).tolist() != [nearest]:
        raise ValueError(
            "atprompt: the checkpoint holds the embedding of an attribute that is no word of one token in this "
            "backbone's vocabulary. Give the words, such as atprompt_attributes=color,shape, and the backbone it was "
            "trained with."
        )
    return word
