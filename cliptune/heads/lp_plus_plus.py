"""A linear probe that takes the texts' answer in, by a multiplier per class."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from cliptune.clip.towers.products import linear
from cliptune.heads.base import Head
from cliptune.heads.explicit import errors, working_dtype
from cliptune.texts import TextBatch

MOMENTUM = 0.9
# Epochs between two steps of the multipliers, and their start per unit of cosine, as released.
EVERY = 10
START = 250.0
# Below this no text says anything of the images, and no step of the multipliers could change that.
TINY = 1e-12
# Features whose logits are held at once.
ROWS = 512
# Features (n, D) and labels (n,), of every view.
Seen = tuple[Tensor, Tensor]
# w (C, D), b (C,), α (C,).
Values = tuple[Tensor, Tensor, Tensor]


class LPPlusPlusHead(Head):
    """logits_c = f̂ · w_c + b_c + α_c f̂ · t̂_c: a linear probe and the texts, blended per class.

    Both blocks have step sizes of the data, by bounds on how fast their gradients change: 4 n / λ_max(F̂ᵀ F̂) for w and
    b, which take a step of the whole batch with momentum 0.9 in every epoch, and n / (4 max_c Σ_i (f̂_i · t̂_c)²) for α,
    which takes a plain step in every tenth. w_c starts at the sum of its class's features, b at 0 (in the release at
    random), and every α_c at 250 times the mean over the classes of the mean f̂ · t̂ of their own images.

    Args:
        classes: C. width: D.
        scale: s of the similarities.
        epochs: of the training.
        summed: the gradient in a step of α is the sum over all epochs so far, as in the release, which never clears it;
            else that of the present epoch.
        search: keep the epoch that is best on the validation images, the last one of equals, if there are any.

    Call order: `observe` for all training (and validation) images, then `refit`. Every view (B, V) is a feature of its
    own. A class without images starts at w_c = 0 and has no part in the start of α. Computed in float64,
    or in float32 where that would take minutes (`working_dtype`).
    Source: LP++ (arXiv:2404.02285), as released.
    """

    class_specific = True
    in_embedding_space = True
    weight: Tensor
    bias: Tensor
    alpha: Tensor

    def __init__(
        self, classes: int, width: int, scale: float, epochs: int = 300, summed: bool = True, search: bool = False
    ) -> None:
        super().__init__()
        if epochs < 1:
            raise ValueError(f"LPPlusPlusHead: epochs must be at least 1, got {epochs}.")
        self.scale, self.epochs, self.summed, self.search = scale, epochs, summed, search
        self.register_buffer("weight", torch.zeros(classes, width))
        self.register_buffer("bias", torch.zeros(classes))
        self.register_buffer("alpha", torch.full((classes,), scale))  # until it is fitted, the texts alone answer
        self._forget()

    def forward(self, similarity: Tensor, texts: TextBatch, image_embedding: Tensor) -> Tensor:
        feature = F.normalize(image_embedding, dim=-1).to(self.weight.dtype)
        return (feature @ self.weight.T + self.bias + self.alpha / self.scale * similarity).mean(dim=1)

    def observe(self, out: Any, labels: Tensor, split: str = "train") -> None:
        embedding = out.image_embedding.cpu()
        self._seen[split].append((embedding.flatten(0, 1), labels.cpu().repeat_interleave(embedding.shape[1])))
        self._text = out.text_features[0].double().cpu()

    def refit(self) -> None:
        """Fit to what was observed. Raises: ValueError if no training image was."""
        if not self._seen["train"]:
            raise ValueError("LPPlusPlusHead: nothing to fit, because no training image was observed.")
        train, text = self._joined("train"), self._text
        held = self._joined("val") if self.search and self._seen["val"] else None
        self._forget()  # the embeddings, which would be held twice
        dtype = working_dtype(self.epochs * train[0].numel() * len(text), self.weight.dtype)
        probe = _Probe.of(*train, text, dtype)
        for own, value in zip((self.weight, self.bias, self.alpha), self._trained(probe, held), strict=True):
            own.copy_(value)

    def _trained(self, probe: _Probe, held: Seen | None) -> Values:
        kept, best = None, -1
        for epoch in range(self.epochs):
            self.say(f"epoch {epoch + 1} of {self.epochs}", minor=True, share=(epoch + 1) / self.epochs)
            probe.step(turns=(epoch + 1) % EVERY == 0, summed=self.summed)
            if held is not None and (correct := probe.correct(*held)) >= best:
                kept, best = probe.values, correct
        return kept or probe.values

    def _joined(self, split: str) -> Seen:
        """Unit features (n, D) in float64 and labels (n,) of a split."""
        embedding, labels = (torch.cat(parts) for parts in zip(*self._seen[split], strict=True))
        return F.normalize(embedding.double(), dim=-1), labels

    def _forget(self) -> None:
        self._seen: dict[str, list[Seen]] = {"train": [], "val": []}
        self._text = self.weight.new_zeros(0, self.weight.shape[1])


class _Probe:
    """w (C, D), b (C,) and α (C,) under way, on unit features f (n, D) that stay as they are.

    logits = f · (w + α t̂) + b, so that the cosines with the texts are never held, and the gradient in α_c is that in
    w_c times t̂_c. It is written out and added up over blocks of features, whose logits fit a processor's cache.
    """

    def __init__(
        self, feature: Tensor, labels: Tensor, text: Tensor, values: Values, rates: tuple[float, float]
    ) -> None:
        self.feature, self.labels, self.text = feature, labels, text
        self.weight, self.bias, self.alpha = values
        self.rate, self.rate_alpha = rates
        self.momentum, self.push = torch.zeros_like(self.weight), torch.zeros_like(self.bias)
        self.pull = torch.zeros_like(self.alpha)

    @classmethod
    def of(cls, feature: Tensor, labels: Tensor, text: Tensor, dtype: torch.dtype) -> _Probe:
        """Start and step sizes by float64 features (n, D), labels (n,) and unit texts (C, D); then in `dtype`."""
        n, count = len(labels), labels.bincount(minlength=len(text))
        weight = torch.zeros_like(text).index_add(0, labels, feature)
        near = (weight * text).sum(dim=1)[count > 0] / count[count > 0]
        alpha = (START * near.mean()).expand(len(text))
        rate = 4 * n / torch.linalg.eigvalsh(feature.T @ feature)[-1]
        squares = torch.stack([(some @ text.T).square().sum(dim=0) for some in feature.split(ROWS)]).sum(dim=0)
        rate_alpha = n / (4 * squares.max().clamp(min=TINY))
        values = (weight.to(dtype), torch.zeros_like(alpha, dtype=dtype), alpha.to(dtype).clone())
        return cls(feature.to(dtype), labels, text.to(dtype), values, (float(rate), float(rate_alpha)))

    @property
    def values(self) -> Values:
        """w, b and α of their own, which the next step leaves as they are."""
        return self.weight.clone(), self.bias.clone(), self.alpha.clone()

    def step(self, turns: bool, summed: bool) -> None:
        """A step of w and b with momentum; `turns`: one of α as well; `summed`: by the gradients of all epochs."""
        slope, lean = self._gradient()
        self.momentum.mul_(MOMENTUM).add_(slope)
        self.push.mul_(MOMENTUM).add_(lean)
        self.weight.sub_(self.momentum, alpha=self.rate)
        self.bias.sub_(self.push, alpha=self.rate)
        pull = slope.mul_(self.text).sum(dim=1)
        self.pull = self.pull + pull if summed else pull
        if turns:
            self.alpha.sub_(self.pull, alpha=self.rate_alpha)

    def _gradient(self) -> tuple[Tensor, Tensor]:
        """Of the mean cross-entropy in w (C, D) and b (C,)."""
        n, joined = len(self.labels), self._joined()
        slope, lean = torch.zeros_like(self.weight), torch.zeros_like(self.bias)
        for feature, labels in zip(self.feature.split(ROWS), self.labels.split(ROWS), strict=True):
            error = errors(linear(feature, joined, self.bias), labels)
            slope.addmm_(error.T, feature, alpha=1 / n)
            lean.add_(error.sum(dim=0), alpha=1 / n)
        return slope, lean

    def correct(self, feature: Tensor, labels: Tensor) -> int:
        """How many of other images (n, D) are taken for what they are."""
        joined, right = self._joined(), 0
        for some, truth in zip(feature.split(ROWS), labels.split(ROWS), strict=True):
            answer = linear(some.to(joined.dtype), joined, self.bias).argmax(dim=1)
            right += int((answer == truth).sum())
        return right

    def _joined(self) -> Tensor:
        """w + α t̂, (C, D)."""
        return torch.addcmul(self.weight, self.alpha[:, None], self.text)
