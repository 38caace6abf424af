"""Which words of the vocabulary the learned text tokens are nearest to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from cliptune.adapter import Adapter
from cliptune.analysis.finding import Finding
from cliptune.prompts.base import MixedPrompt

Metric = Literal["euclidean", "cosine"]
METRICS: tuple[Metric, ...] = ("euclidean", "cosine")


@dataclass(frozen=True)
class NearWords:
    """The words nearest to one learned token.

    Args:
        layer: block that the token enters.
        position: among the tokens of that block, from 0.
        mixture: ω of a prompt that mixes two, None for others.
        class_name: whose token it is; None where all classes share it.
        words: nearest first, as they are decoded. distances: to them, euclidean, or 1 − cosine.
        in_vocabulary_space: false for deeper blocks, whose tokens are no word embeddings: there the words are a
            curiosity.
    """

    layer: int
    position: int
    mixture: float | None
    class_name: str | None
    words: tuple[str, ...]
    distances: tuple[float, ...]
    in_vocabulary_space: bool


@dataclass(frozen=True)
class Words(Finding):
    """Nearest vocabulary words of a text prompt.

    Args:
        tokens: learned tokens with their words.
        metric: "euclidean" or "cosine".
        between_words: median distance of a word to its own nearest other word, for comparison.
        vocabulary: name and size of the backbone's vocabulary table, whose rows are compared.
        moved_by_images: true where the tokens are shifted by each image, and stand here before that.
    """

    tokens: tuple[NearWords, ...]
    metric: Metric
    between_words: float
    vocabulary: str
    moved_by_images: bool

    def sentence(self) -> str:
        first = [token for token in self.tokens if token.layer == 0 and token.class_name == self.tokens[0].class_name]
        shown = [token for token in first if token.mixture == first[0].mixture]
        named = ", ".join(f"{token.words[0]!r} ({token.distances[0]:.2f})" for token in shown)
        whose = f" of {shown[0].class_name!r}" if shown[0].class_name is not None else ""
        said = (
            f"Nearest words of the learned tokens{whose}, with {self.metric} distance: {named}; a word's nearest other "
            f"word is {self.between_words:.2f} away, so that "
        )
        far = sum(token.distances[0] > self.between_words for token in shown)
        said += f"{far} of {len(shown)} tokens are farther from any word than words are from each other."
        return said + (" Each image moves them further." if self.moved_by_images else "")


@torch.no_grad()
def nearest_words(adapter: Adapter, *, k: int = 5, metric: Metric = "euclidean", whole_words: bool = False) -> Words:
    """The k nearest vocabulary words of every learned text token.  (arXiv:2109.01134, Sec. 4.1, table of words)

    Tokens are compared as they enter, so low-rank products are merged and two prompts mixed, with each ω that is used;
    their positions are not yet added. The table is that of the adapter's own backbone: released scripts take that of
    RN50 for all, which fits by its width alone.

    Args:
        adapter: with learned text tokens.
        k: words per token.
        metric: "euclidean", or "cosine" for 1 − cosine.
        whole_words: only entries that end a word and are letters alone.
    Raises: ValueError without learned text tokens, for a number or metric out of range, or a vocabulary that cannot be
        decoded.
    """
    vocabulary, decode = (
        adapter.clip.text.token_embedding.weight.float(),
        getattr(adapter.clip.tokenizer, "decode", None),
    )
    if k < 1 or metric not in METRICS:
        raise ValueError(f"words: expected k ≥ 1 and a metric of {', '.join(METRICS)}, got {k} and {metric!r}.")
    if decode is None:
        raise ValueError(f"words: the tokenizer of {adapter.clip.name} has no `decode` that names its entries.")
    with adapter.evaluating():
        found: list[NearWords] = []
        for mixture, seen in _mixtures(adapter):
            ports = adapter.prompt(seen=seen)
            for layer, tokens in ports.text.tokens.items():
                names = adapter.class_names if tokens.ndim > 2 else (None,)
                for rows, name in zip(tokens.float().reshape(-1, *tokens.shape[-2:]), names, strict=True):
                    distances = _distances(rows, vocabulary, metric)
                    for position, own in enumerate(distances):
                        ids, words = _nearest(own, decode, k, whole_words)
                        far = tuple(own[ids].tolist())
                        found.append(NearWords(layer, position, mixture, name, words, far, layer == 0))
        if not found:
            raise ValueError("words: this adapter learns no text tokens, so there is nothing that words could be near.")
        moved = ports.condition is not None
    table = f"{adapter.clip.name}, {len(vocabulary):,} entries"
    return Words(tuple(found), metric, _between(vocabulary, metric), table, moved)


def _mixtures(adapter: Adapter) -> Sequence[tuple[float | None, bool]]:
    """ω and the kind of classes that it is for, each ω once, that of the classes asked about first."""
    if not isinstance(adapter.prompt, MixedPrompt):
        return [(None, adapter.seen)]
    weights = {adapter.prompt.evaluation_weight(seen): seen for seen in (not adapter.seen, adapter.seen)}
    return list(weights.items())[::-1]


def _distances(rows: Tensor, vocabulary: Tensor, metric: Metric) -> Tensor:
    """(n, d) against (N, d) → (n, N)."""
    if metric == "cosine":
        return 1 - F.normalize(rows, dim=-1) @ F.normalize(vocabulary, dim=-1).T
    return torch.cdist(rows, vocabulary, compute_mode="donot_use_mm_for_euclid_dist")


def _nearest(
    distances: Tensor, decode: Callable[..., str], k: int, whole_words: bool
) -> tuple[list[int], tuple[str, ...]]:
    """Ids of the nearest words, and how they are written."""
    ids: list[int] = []
    words: list[str] = []
    # Few candidates mostly do; all of them where those are no whole words.
    for candidates in (min(20 * k, len(distances)), len(distances)):
        ids, words = [], []
        for token in distances.topk(candidates, largest=False).indices.tolist():
            word = decode([token])
            if not whole_words or (word.endswith(" ") and word.strip().isalpha()):
                ids.append(token)
                words.append(word.strip() or word)
            if len(ids) == k:
                return ids, tuple(words)
    return ids, tuple(words)


def _between(vocabulary: Tensor, metric: Metric, sample: int = 256) -> float:
    """Median distance of evenly spread words to their nearest other one."""
    at = torch.linspace(0, len(vocabulary) - 1, min(sample, len(vocabulary)), device=vocabulary.device).long()
    distances = _distances(vocabulary[at], vocabulary, metric)
    distances[torch.arange(len(at)), at] = float("inf")
    return float(distances.amin(dim=-1).median())
