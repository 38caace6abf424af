"""A cache of training images that looks at the channels in which classes differ."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cliptune.heads.base import Head
from cliptune.heads.keys import by_class, nearness
from cliptune.texts import TextBatch

# Values tried of β and of α, and where both start, as released.
BETAS, ALPHAS, SMALLEST = 200, 20, 0.1
# Added to probabilities before their logarithm, as released.
EPSILON = 1e-6
# Unit embeddings (n, D), votes of the texts (n, C), labels (n,), texts (C, D) unit.
Seen = tuple[Tensor, Tensor, Tensor, Tensor]


@dataclass(frozen=True)
class Search:
    """Grid for the validation images: β and α from 0.1 up to a maximum, `gammas` values of γ from 0 up to one."""

    alpha_max: float = 7.0
    beta_max: float = 7.0
    gamma_max: float = 0.0
    gammas: int = 1

    def __post_init__(self) -> None:
        if min(self.alpha_max, self.beta_max) <= SMALLEST:
            raise ValueError(
                f"Search: alpha and beta are searched from {SMALLEST} on, got maxima {self.alpha_max} and "
                f"{self.beta_max}."
            )
        if self.gamma_max < 0 or self.gammas < 1:
            raise ValueError(
                f"Search: gamma is searched from 0 on in at least one step, got a maximum of {self.gamma_max} and "
                f"{self.gammas} values."
            )


def channel_scores(texts: Tensor, keys: Tensor, labels: Tensor, balance: float) -> Tensor:
    """How well each channel tells the classes apart, (D,): − λ · similarity + (1 − λ) · variance.

    The similarity is the mean over pairs of different classes of the product of their means, each over the class's text
    and images; the variance is that of the texts.

    Args: texts (C, D), keys (M, D), unit; labels (M,). balance: λ in [0, 1].
    Source: APE (arXiv:2304.01195; cal_criterion in utils.py of its release, which asks for equally many images of every
        class and is equal then).
    """
    classes = len(texts)
    count = 1 + torch.bincount(labels, minlength=classes)
    means = texts.index_add(0, labels, keys) / count[:, None]
    apart = means.sum(dim=0) ** 2 - (means**2).sum(dim=0)
    similarity = apart / max(classes * (classes - 1), 1)
    return (1 - balance) * texts.var(dim=0, correction=min(1, classes - 1)) - balance * similarity


class _ChannelCache(Head):
    """What the two heads share: unit keys of training images, the channels that were chosen, α and β."""

    class_specific = True
    in_embedding_space = True
    channels: Tensor
    alpha: Tensor
    beta: Tensor
    labels: Tensor

    def __init__(
        self, classes: int, width: int, share: float, balance: float, alpha: float, beta: float, search: Search | None
    ) -> None:
        super().__init__()
        who = type(self).__name__
        if not (alpha > 0 and beta > 0):
            raise ValueError(f"{who}: alpha and beta must be above 0, got {alpha} and {beta}.")
        if not 0 < share <= 1:
            raise ValueError(f"{who}: share must be above 0 and at most 1 (all channels), got {share}.")
        if not 0 <= balance <= 1:
            raise ValueError(f"{who}: balance must be between 0 (variance alone) and 1 (similarity), got {balance}.")
        self.classes, self.balance, self.search = classes, balance, search
        self.register_buffer("channels", torch.arange(max(1, round(share * width))))
        self.register_buffer("labels", torch.zeros(0, dtype=torch.int64))
        self.register_buffer("alpha", torch.tensor(float(alpha)))
        self.register_buffer("beta", torch.tensor(float(beta)))
        self._forget()

    @torch.no_grad()
    def observe(self, out: Any, labels: Tensor, split: str = "train") -> None:
        """Images to make keys of, or to search on; their views (B, V) are averaged. Not in training mode.

        Raises: ValueError if texts depend on the image.
        """
        if self.training:
            return
        if len(out.text_features) != 1:
            raise ValueError(
                f"{type(self).__name__}: channels are chosen once, by texts that do not depend on the image. Use a "
                "prompt without a condition."
            )
        feature = F.normalize(out.image_embedding.mean(dim=1).double(), dim=-1).cpu()
        votes, texts = out.similarity.mean(dim=1).double().cpu(), out.text_features[0].double().cpu()
        self._seen[split].append((feature, votes, labels.cpu(), texts))

    @torch.no_grad()
    def refit(self) -> None:
        """Make keys of the training images that were seen; search on the validation images that were."""
        if self._seen["train"]:
            feature, _, labels, texts = _joined(self._seen["train"])
            self.labels = labels.to(self.labels.device)
            self._fill(feature, labels, texts)
        if self._seen["val"] and self.search is not None and len(self.labels):
            feature, votes, labels, _ = _joined(self._seen["val"])
            self._choose(feature.to(self.alpha), votes.to(self.alpha), labels.to(self.labels))
        self._forget()

    def _pick(self, scores: Tensor) -> Tensor:
        self.channels.copy_(scores.topk(len(self.channels)).indices)
        return self.channels.cpu()

    def _fill(self, feature: Tensor, labels: Tensor, texts: Tensor) -> None:
        raise NotImplementedError

    def _choose(self, feature: Tensor, votes: Tensor, labels: Tensor) -> None:
        raise NotImplementedError

    def _forget(self) -> None:
        self._seen: dict[str, list[Seen]] = {"train": [], "val": []}

    def _grown(self, shapes: Mapping[str, torch.Size]) -> None:
        lengths = {shape[0] for shape in shapes.values()}
        if len(lengths) > 1:
            raise ValueError(
                f"{type(self).__name__}: {', '.join(sorted(shapes))} must hold a row for each image, got "
                f"{sorted(lengths)} rows. The checkpoint is damaged."
            )
        self.labels = self.labels.new_zeros(shapes["labels"])


class RefinedHead(_ChannelCache):
    """logits = s f T̂ᵀ + α exp(−β (1 − f′ F′ᵀ)) (exp(γ d) L): a cache on the best channels, of weighted keys.

    f′, F′, T′ are image, keys and texts on the chosen channels, unit again. d is the divergence Σ L log₂ (L / p) of a
    key's label L from p = softmax(F′ T′ᵀ): a key that is not like its own text counts more.

    Args:
        classes: C. width: D.
        share: of the D channels, those with the largest `channel_scores`, above 0 and at most 1.
        balance: λ in [0, 1] of `channel_scores`.
        alpha: α > 0, weight of the cache. beta: β > 0, how sharply it looks. gamma: γ ≥ 0, how much d counts.
        search: for better α, β and γ on validation images; None keeps those given.

    Call order: `observe` for all training (and validation) images, then `refit`. Of a class without training images the
    texts speak alone.
    Source: APE without training (arXiv:2304.01195; main.py and utils.py of its release).
    """

    growing = frozenset({"keys", "labels", "divergence"})
    keys: Tensor
    divergence: Tensor
    gamma: Tensor

    def __init__(
        self,
        classes: int,
        width: int,
        share: float,
        balance: float,
        alpha: float,
        beta: float,
        gamma: float,
        search: Search | None = None,
    ) -> None:
        super().__init__(classes, width, share, balance, alpha, beta, search)
        if gamma < 0:
            raise ValueError(f"RefinedHead: gamma must be at least 0, got {gamma}. 0 weighs all keys alike.")
        self.register_buffer("gamma", torch.tensor(float(gamma)))
        self.register_buffer("keys", torch.zeros(0, len(self.channels)))
        self.register_buffer("divergence", torch.zeros(0))

    def forward(self, similarity: Tensor, texts: TextBatch, image_embedding: Tensor) -> Tensor:
        votes = similarity.mean(dim=1)
        if not len(self.keys):
            return votes
        near = nearness(self._refined(F.normalize(image_embedding, dim=-1)), self.keys, self.beta)
        return votes + self.alpha * self._said(near, self.gamma).mean(dim=1)

    def grow(self, shapes: Mapping[str, torch.Size]) -> None:
        """Make room for another number of images. Raises: ValueError if the tensors differ in it."""
        self._grown(shapes)
        self.keys = self.keys.new_zeros(shapes["keys"])
        self.divergence = self.divergence.new_zeros(shapes["divergence"])

    def _fill(self, feature: Tensor, labels: Tensor, texts: Tensor) -> None:
        channels = self._pick(channel_scores(texts, feature, labels, self.balance))
        keys = F.normalize(feature[:, channels], dim=-1)
        own = (keys @ F.normalize(texts[:, channels], dim=-1).T).softmax(dim=-1)[torch.arange(len(keys)), labels]
        self.keys = keys.to(self.keys)
        self.divergence = torch.log2((1 + EPSILON) / (own + EPSILON)).to(self.divergence)

    def _choose(self, feature: Tensor, votes: Tensor, labels: Tensor) -> None:
        assert self.search is not None
        affinity = self._refined(feature) @ self.keys.T
        found = searched(self.search, affinity, votes, labels, self._said, self.say)
        for buffer, value in zip((self.alpha, self.beta, self.gamma), found, strict=True):
            buffer.fill_(value)

    def _refined(self, feature: Tensor) -> Tensor:
        return F.normalize(feature[..., self.channels], dim=-1)

    def _said(self, near: Tensor, gamma: float | Tensor) -> Tensor:
        """What keys (…, M) so near have to say of the classes, (…, C)."""
        return by_class(near * (gamma * self.divergence).exp(), self.labels, self.classes)


class CategoryResidualHead(_ChannelCache):
    """logits = s f (T̂ + R)ᵀ + α exp(−β (1 − f (F + R_L)ᵀ)) (v L): one residual R per class moves its text and its keys.

    R (C, Q) stands on Q channels and learns from 0, v (M,) weighs the keys and learns from 1. Sums are not unit. The
    keys of one class share their residual, so that exp(β f R_cᵀ) is a factor of the class's sum, and nothing that is
    learned enters the product with the keys.

    Args:
        classes: C. width: D.
        scale: s, a scalar.
        share, balance: of `channel_scores`, here of the texts alone.
        alpha, beta: as in `RefinedHead`, while R and v learn.
        search: for better α and β on validation images afterwards; None keeps those given.

    Call order: `observe` for all training images, `refit`; training; `observe` for all validation images, `refit`. In
    training mode nothing is observed. How many keys there are is a matter of the data.
    Source: APE-T (arXiv:2304.01195; APE_Training in utils.py, APE_T in main.py of its release, which takes as many
        channels as APE without training is set to, and fails where APE-T's own number differs; here it is its own).
    """

    growing = frozenset({"keys", "labels", "strength"})
    keys: Tensor
    scale: Tensor

    def __init__(
        self,
        classes: int,
        width: int,
        scale: Tensor,
        share: float,
        balance: float,
        alpha: float,
        beta: float,
        search: Search | None = None,
    ) -> None:
        super().__init__(classes, width, share, balance, alpha, beta, search)
        self.residual = nn.Parameter(torch.zeros(classes, len(self.channels)))
        self.strength = nn.Parameter(torch.zeros(0))
        self.register_buffer("keys", torch.zeros(0, width))
        self.register_buffer("scale", scale.detach().clone(), persistent=False)  # the CLIP's, and kept with it

    def forward(self, similarity: Tensor, texts: TextBatch, image_embedding: Tensor) -> Tensor:
        feature = F.normalize(image_embedding, dim=-1)
        shift = self._shift(feature)
        cache = self._said(nearness(feature, self.keys, self.beta)) * (self.beta * shift).exp()
        return (similarity + self.scale * shift + self.alpha * cache).mean(dim=1)

    def grow(self, shapes: Mapping[str, torch.Size]) -> None:
        """Make room for another number of images. Raises: ValueError if the tensors differ in it."""
        self._grown(shapes)
        self.keys = self.keys.new_zeros(shapes["keys"])
        self.strength = nn.Parameter(self.strength.new_zeros(shapes["strength"]))

    def _fill(self, feature: Tensor, labels: Tensor, texts: Tensor) -> None:
        self._pick(channel_scores(texts, feature[:0], labels[:0], self.balance))
        self.keys = feature.to(self.keys)
        self.strength = nn.Parameter(self.strength.new_ones(len(labels)))

    def _choose(self, feature: Tensor, votes: Tensor, labels: Tensor) -> None:
        assert self.search is not None
        shift = self._shift(feature)
        affinity = feature @ self.keys.T + shift[..., self.labels]
        votes = votes + self.scale * shift
        found = searched(self.search, affinity, votes, labels, lambda near, gamma: self._said(near), self.say)
        self.alpha.fill_(found[0])
        self.beta.fill_(found[1])

    def _shift(self, feature: Tensor) -> Tensor:
        """f Rᵀ of unit features (…, D), (…, C)."""
        return feature[..., self.channels] @ self.residual.T

    def _said(self, near: Tensor) -> Tensor:
        """What keys (…, M) so near have to say of the classes, (…, C)."""
        return by_class(near * self.strength, self.labels, self.classes)


def searched(
    search: Search,
    affinity: Tensor,
    votes: Tensor,
    labels: Tensor,
    said: Callable[[Tensor, float], Tensor],
    say: Callable[[str, bool, float], None] | None = None,
) -> tuple[float, float, float]:
    """(α, β, γ) that answers best, the first of the best; β in the outer loop, γ in the inner one.

    Args:
        affinity (n, M), votes (n, C), labels (n,).
        said: exp(−β (1 − affinity)) (n, M), γ → the cache's votes (n, C).
        say: told how far it is, see `Head.say`.
    """
    alphas = [SMALLEST + i * (search.alpha_max - SMALLEST) / ALPHAS for i in range(ALPHAS)]
    gammas = [i * search.gamma_max / search.gammas for i in range(search.gammas)]
    best, found = -1, (alphas[0], SMALLEST, gammas[0])
    for step in range(BETAS):
        beta = SMALLEST + step * (search.beta_max - SMALLEST) / BETAS
        near = (-beta * (1 - affinity)).exp()
        counts = torch.zeros(len(alphas), len(gammas), dtype=torch.int64)
        for g, gamma in enumerate(gammas):
            cache = said(near, gamma)
            for a, alpha in enumerate(alphas):
                counts[a, g] = ((votes + alpha * cache).argmax(dim=-1) == labels).sum()
        top = int(counts.max())
        if top > best:
            a, g = divmod(int((counts.flatten() == top).nonzero()[0]), len(gammas))
            best, found = top, (alphas[a], beta, gammas[g])
        if say is not None:
            say(f"β = {beta:.4g}, value {step + 1} of {BETAS}", True, (step + 1) / BETAS)
    return found


def _joined(batches: list[Seen]) -> Seen:
    feature, votes, labels = (torch.cat(parts) for parts in list(zip(*batches, strict=True))[:3])
    return feature, votes, labels, batches[0][3]
