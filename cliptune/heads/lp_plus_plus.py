"""A linear probe that takes the texts' answer in, by a multiplier per class."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from cliptune.heads.base import Head
from cliptune.texts import TextBatch

MOMENTUM = 0.9
# Epochs between two steps of the multipliers, and their start per unit of cosine, as released.
EVERY = 10
START = 250.0
# Below this no text says anything of the images, and no step of the multipliers could change that.
TINY = 1e-12
# Features (n, D) unit, cosines with the class texts (n, C), labels (n,), all of every view.
Seen = tuple[Tensor, Tensor, Tensor]


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
    own. A class without images starts at w_c = 0 and has no part in the start of α. Computed in float64.
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
        feature = F.normalize(out.image_embedding.double(), dim=-1).cpu()
        cosine = feature @ out.text_features[0].double().cpu().T
        owners = labels.cpu().repeat_interleave(feature.shape[1])
        self._seen[split].append((feature.flatten(0, 1), cosine.flatten(0, 1), owners))

    def refit(self) -> None:
        """Fit to what was observed. Raises: ValueError if no training image was."""
        if not self._seen["train"]:
            raise ValueError("LPPlusPlusHead: nothing to fit, because no training image was observed.")
        held = _joined(self._seen["val"]) if self.search and self._seen["val"] else None
        for own, value in zip((self.weight, self.bias, self.alpha), self._fitted(held), strict=True):
            own.copy_(value)
        self._forget()

    def _fitted(self, held: Seen | None) -> tuple[Tensor, Tensor, Tensor]:
        feature, cosine, labels = _joined(self._seen["train"])
        truth = F.one_hot(labels, cosine.shape[1]).double()
        weight, bias, alpha = _start(feature, cosine, truth)
        n = len(labels)
        rate = 4 * n / torch.linalg.eigvalsh(feature.T @ feature)[-1]
        rate_alpha = n / (4 * cosine.square().sum(dim=0).max().clamp(min=TINY))
        momentum, push = torch.zeros_like(weight), torch.zeros_like(bias)
        pull = torch.zeros_like(alpha)
        kept, best = (weight, bias, alpha), -1
        for epoch in range(self.epochs):
            self.say(f"epoch {epoch + 1} of {self.epochs}", minor=True, share=(epoch + 1) / self.epochs)
            error = (_logits(feature, cosine, weight, bias, alpha).softmax(dim=1) - truth) / n
            momentum, push = MOMENTUM * momentum + error.T @ feature, MOMENTUM * push + error.sum(dim=0)
            weight, bias = weight - rate * momentum, bias - rate * push
            pull = (error * cosine).sum(dim=0) + (pull if self.summed else 0)
            if (epoch + 1) % EVERY == 0:
                alpha = alpha - rate_alpha * pull
            correct = 0 if held is None else _correct(held, weight, bias, alpha)
            if correct >= best:
                kept, best = (weight, bias, alpha), correct
        return kept

    def _forget(self) -> None:
        self._seen: dict[str, list[Seen]] = {"train": [], "val": []}


def _joined(batches: list[Seen]) -> Seen:
    feature, cosine, labels = (torch.cat(parts) for parts in zip(*batches, strict=True))
    return feature, cosine, labels


def _start(feature: Tensor, cosine: Tensor, truth: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """w (C, D), b (C,), α (C,) before the first step; truth (n, C) one-hot."""
    count = truth.sum(dim=0)
    near = (truth * cosine).sum(dim=0)[count > 0] / count[count > 0]
    return truth.T @ feature, torch.zeros_like(count), (START * near.mean()).expand_as(count)


def _logits(feature: Tensor, cosine: Tensor, weight: Tensor, bias: Tensor, alpha: Tensor) -> Tensor:
    return feature @ weight.T + bias + alpha * cosine


def _correct(held: Seen, weight: Tensor, bias: Tensor, alpha: Tensor) -> int:
    feature, cosine, labels = held
    return int((_logits(feature, cosine, weight, bias, alpha).argmax(dim=1) == labels).sum())
