"""A cache of what patches look like, which class texts read from."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cliptune.clip.ports import Ports
from cliptune.prompts.base import Prompt


class Refined:
    """The `text_features` port of one step: t (I, C, D) → α W [t̂, r] + t̂, with r = softmax(t̂ Aᵀ) A over the cache A.

    Attributes:
        plain: t̂ of the texts that were given, (I, C, D) unit; None until they were.
    """

    def __init__(self, read: Callable[[Tensor], Tensor]) -> None:
        self.read = read
        self.plain: Tensor | None = None

    def __call__(self, embedding: Tensor) -> Tensor:
        self.plain = F.normalize(embedding, dim=-1)
        return self.read(self.plain)


class LocalCache(Prompt):
    """Class texts refined by a cache A (M, D) of mapped patches, at the `text_features` port.

    Refined texts keep their length, as released. `write` moves the cache towards the patches of a batch; what maps them
    is learned, and used in training alone: Linear, BatchNorm, ReLU, Linear.

    Args:
        width: D. slots: M. share: α, of what was read. momentum: μ, of the cache.

    Raises: ValueError for less than 1 slot, or a share or momentum out of range.
    Source: TextRefiner (arXiv:2412.08176; trainers/textrefiner.py of its release).
    """

    map_names = ("mix", "local")
    cache: Tensor

    def __init__(self, width: int, slots: int = 25, share: float = 0.2, momentum: float = 0.8) -> None:
        super().__init__()
        if slots < 1:
            raise ValueError(f"textrefiner: textrefiner_slots must be at least 1, got {slots}.")
        if not 0 <= momentum <= 1:
            raise ValueError(f"textrefiner: textrefiner_momentum must be between 0 and 1, got {momentum}.")
        self.share, self.momentum = share, momentum
        self.mix = nn.Linear(2 * width, width, bias=False)
        self.local = nn.Sequential(nn.Linear(width, width), nn.BatchNorm1d(width), nn.ReLU(), nn.Linear(width, width))
        self.register_buffer("cache", F.normalize(torch.rand(slots, width), dim=-1))

    def forward(self, seen: bool = True) -> Ports:
        return Ports(text_features=Refined(self.read), text_lengths=True)

    def read(self, text: Tensor) -> Tensor:
        """Unit texts (I, C, D) → refined ones, (I, C, D)."""
        # Written anew by `write`, never in place: the graph of this step keeps the cache that it read.
        found = (text @ self.cache.T).softmax(dim=-1) @ self.cache
        refined: Tensor = self.share * self.mix(torch.cat([text, found], dim=-1)) + text
        return refined

    def mapped(self, rows: Tensor) -> Tensor:
        """Embeddings of class token and patches (B, T, D) → (B, T, D), into the space of the texts."""
        out: Tensor = self.local(rows.flatten(0, 1))
        return out.view(rows.shape)

    @torch.no_grad()
    def write(self, rows: Tensor) -> None:
        """Move each slot towards the mapped rows (..., D) that are nearest to it: A ← unit(μ A + (1 − μ) Σ w x̂).

        The weight w of a row is exp(⟨x̂, A⟩), divided by the largest of any row for that slot.
        """
        rows = F.normalize(rows.detach().flatten(0, -2), dim=-1)
        likeness = rows @ self.cache.T  # (N, M)
        nearest = F.one_hot(likeness.argmax(dim=-1), len(self.cache)).to(rows.dtype)
        sums = (nearest * (likeness - likeness.max(dim=0).values).exp()).T @ rows
        moved = self.momentum * self.cache + (1 - self.momentum) * sums
        chosen = nearest.sum(dim=0)[:, None] > 0
        self.cache = F.normalize(torch.where(chosen, moved, self.cache), dim=-1)
