"""Linear probes that start at the class texts."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from cliptune.clip.towers.products import linear
from cliptune.heads.base import Head
from cliptune.heads.explicit import errors, working_dtype
from cliptune.texts import TextBatch

MOMENTUM = 0.9
WARMUP_LR = 1e-5
# Images whose answers are held in memory at once.
CHUNK = 4096
# Length that a prototype is taken to have at least, as in `F.normalize`.
TINY = 1e-12


class TextHead(Head):
    """logits = s · f̂ · unit(w_c): one prototype per class beside the class texts, which it is shown at every answer.

    What is kept are values per class beside the texts, not the texts.

    Args:
        classes: C. width: D. scale: s.

    Call order: `observe` for all training images, every view (B, V) a feature of its own, then `refit`.
    """

    class_specific = True
    in_embedding_space = True
    # Texts are no learnables, so a loaded head has to see them again; the adapter keeps them, so this costs nothing.
    settled = False

    def __init__(self, classes: int, width: int, scale: float) -> None:
        super().__init__()
        self.classes, self.width, self.scale = classes, width, scale
        self._text: Tensor | None = None
        self._forget()

    def prototypes(self, text: Tensor) -> Tensor:
        """Unit class texts (I, C, D) → prototypes of any length, (I, C, D)."""
        raise NotImplementedError

    def _fit(self, embedding: Tensor, labels: Tensor, text: Tensor, images: int) -> None:
        """Embeddings (n, D) as observed, of so many images; labels (n,); class texts (C, D) unit, float64."""
        raise NotImplementedError

    def settle(self, text_features: Tensor, texts: TextBatch) -> None:
        self._text = text_features.detach()

    def forward(self, similarity: Tensor, texts: TextBatch, image_embedding: Tensor) -> Tensor:
        if self._text is None:
            raise ValueError(f"{type(self).__name__}: it answers beside the class texts. Show them first, by `settle`.")
        feature = F.normalize(image_embedding, dim=-1)
        prototypes = F.normalize(self.prototypes(self._text.to(feature.dtype)), dim=-1)
        return self.scale * (feature @ prototypes.mT).mean(dim=1)

    def fold(self, text_features: Tensor, texts: TextBatch, views: int) -> Tensor:
        prototypes = F.normalize(self.prototypes(text_features), dim=-1)
        return (prototypes / views).expand(views, -1, -1)

    def observe(self, out: Any, labels: Tensor, split: str = "train") -> None:
        # Many views of many images are many: they become unit and float64 where they are used.
        self._seen.append((out.image_embedding.cpu(), labels.cpu()))
        self._shown = out.text_features[0].double().cpu()

    def refit(self) -> None:
        """Fit to what was observed. Raises: ValueError if no training image was."""
        if not self._seen:
            raise ValueError(f"{type(self).__name__}: nothing to fit, because no training image was observed.")
        embedding, labels = (torch.cat(parts) for parts in zip(*self._seen, strict=True))
        flat = labels.repeat_interleave(embedding.shape[1])
        self._fit(embedding.flatten(0, 1), flat, self._shown, images=len(labels))
        self._forget()

    def _forget(self) -> None:
        self._seen: list[tuple[Tensor, Tensor]] = []


class ProbeHead(TextHead):
    """w_c = m_c t̂_c + r_c: prototypes that start at the embeddings of the class texts, of length m_c, and are trained.

    SGD with momentum 0.9 on cross-entropy, over features that were computed once; the first epoch has a rate of 1e-5,
    the others follow a cosine. Constrained, the loss has + 1/C Σ_c λ_c ‖r_c‖², with λ_c the mean probability of class c
    that the texts alone give to its training images: the better a class is known, the firmer it is held. Classes
    without images are held as firmly as the others are on average.

    Args:
        classes: C. width: D. scale: s.
        constrained: hold the prototypes near the texts (CLAP); else not (ZS-LP).
        lr, batch_size, epochs: of the training. Each epoch takes as many batches as there are whole ones in the
            images, at least one, out of all their views.

    Lengths m_c decide how far a step turns a prototype; they are 1 until `measure` sets them.
    The training is computed in float64, or in float32 where that would take minutes (`working_dtype`), and the order of
    the features is drawn from a seed of the head's own.
    Source: ZS-LP and CLAP (arXiv:2312.12730), as released; the multipliers of classes without images are those of
        the same authors' later release (arXiv:2506.17500).
    """

    residual: Tensor
    length: Tensor
    multiplier: Tensor

    def __init__(
        self,
        classes: int,
        width: int,
        scale: float,
        constrained: bool,
        lr: float = 0.1,
        batch_size: int = 256,
        epochs: int = 300,
    ) -> None:
        super().__init__(classes, width, scale)
        if not lr > 0:
            raise ValueError(f"ProbeHead: lr must be above 0, got {lr}. Give a positive learning rate.")
        if batch_size < 1 or epochs < 1:
            raise ValueError(f"ProbeHead: batch_size and epochs must be at least 1, got {batch_size} and {epochs}.")
        self.constrained, self.lr, self.batch_size, self.epochs = constrained, lr, batch_size, epochs
        self.register_buffer("residual", torch.zeros(classes, width))
        self.register_buffer("length", torch.ones(classes))
        if constrained:
            self.register_buffer("multiplier", torch.zeros(classes))
        self._seed = int(torch.randint(2**31, ()))

    def measure(self, length: Tensor) -> None:
        """Take over the lengths (C,) > 0 of the embeddings of the class texts."""
        self.length.copy_(length)

    def prototypes(self, text: Tensor) -> Tensor:
        return self.length.to(text.dtype)[:, None] * text + self.residual.to(text.dtype)

    def _fit(self, embedding: Tensor, labels: Tensor, text: Tensor, images: int) -> None:
        start = self.length.double().cpu()[:, None] * text
        multiplier = torch.zeros(self.classes, dtype=torch.float64)
        if self.constrained:
            multiplier = held(embedding, labels, self.scale * text)
            self.multiplier.copy_(multiplier)
        dtype = working_dtype(self.epochs * images * start.numel(), self.residual.dtype)
        feature = torch.cat([unit(some).to(dtype) for some in embedding.split(CHUNK)])
        pull = 2 / self.classes * multiplier[:, None].to(dtype) if self.constrained else None
        descent = _Descent(start.to(dtype), self.scale, pull)
        generator = torch.Generator().manual_seed(self._seed)
        for epoch in range(self.epochs):
            rate = _rate(self.lr, epoch, self.epochs)
            for rows in self._batches(len(embedding), images, generator):
                descent.step(feature.index_select(0, rows), labels[rows], rate)
            self.say(f"epoch {epoch + 1} of {self.epochs}", minor=True, share=(epoch + 1) / self.epochs)
        self.residual.copy_(descent.residual)

    def _batches(self, features: int, images: int, generator: torch.Generator) -> list[Tensor]:
        """Positions among all views of the images, for one epoch."""
        order = torch.randperm(features, generator=generator)
        return list(order.split(self.batch_size)[: max(1, images // self.batch_size)])


class _Descent:
    """SGD with momentum on cross-entropy + ½ Σ_c p_c ‖r_c‖², w = start + r under unit norm; its gradient written out.

    With k_c = s / (n ‖w_c‖), e = softmax − one-hot and z the logits of n unit features f, the gradient in w_c is
    Σ_i k_c e_ic f_i − (Σ_i k_c e_ic z_ic) w_c / (s ‖w_c‖) + p_c r_c. Two products with the features, added to the
    momentum where it lies, and a few passes over matrices that fit a processor's cache.

    Args: start (C, D). scale: s. pull: p (C, 1), or None for none.
    """

    def __init__(self, start: Tensor, scale: float, pull: Tensor | None) -> None:
        self.start, self.scale, self.pull = start, scale, pull
        self.residual, self.momentum = torch.zeros_like(start), torch.zeros_like(start)
        self._weight = torch.empty_like(start)

    def step(self, feature: Tensor, labels: Tensor, rate: float) -> None:
        """Unit features (n, D), labels (n,)."""
        weight = torch.add(self.start, self.residual, out=self._weight)
        length = torch.linalg.vector_norm(weight, dim=1).clamp_(min=TINY)
        logits = linear(feature, weight).mul_(self.scale / length)
        error = errors(logits, labels).mul_(self.scale / len(labels) / length)
        along = logits.mul_(error).sum(dim=0).div_(self.scale * length)
        self.momentum.addmm_(error.T, feature, beta=MOMENTUM)
        self.momentum.addcmul_(along[:, None], weight, value=-1)
        if self.pull is not None:
            self.momentum.addcmul_(self.pull, self.residual)
        self.residual.sub_(self.momentum, alpha=rate)


def held(embedding: Tensor, labels: Tensor, text: Tensor) -> Tensor:
    """λ (C,): mean probability that the texts (C, D) give to a class in its own images (n, D); without any, λ's mean.

    Source: CLAP (arXiv:2312.12730), as released.
    """
    own = torch.cat(
        [
            (unit(images) @ text.T).softmax(dim=1).gather(1, truth[:, None])[:, 0]
            for images, truth in zip(embedding.split(CHUNK), labels.split(CHUNK), strict=True)
        ]
    )
    count = labels.bincount(minlength=len(text))
    mean = own.new_zeros(len(text)).index_add(0, labels, own) / count.clamp(min=1)
    return torch.where(count > 0, mean, mean[count > 0].mean())


def unit(embedding: Tensor) -> Tensor:
    """Unit features in float64."""
    return F.normalize(embedding.double(), dim=-1)


def _rate(lr: float, epoch: int, epochs: int) -> float:
    return WARMUP_LR if epoch == 0 else lr * (1 + math.cos(math.pi * (epoch - 1) / epochs)) / 2
