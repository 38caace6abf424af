"""Random numbers that belong to one picture: the same for picture i of a split, whatever the batch."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor


def seed_of(text: str) -> int:
    """63-bit seed from a text, the same on every machine (BLAKE2b)."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") >> 1


class Draws:
    """A row of uniform numbers per picture, handed out column by column.

    Everything is float64 until it is drawn: a sine of a float32 scalar may differ in its last bit with its
    position in a vector, and a picture must not depend on its neighbours in the batch.

    Args:
        keys: one text per picture (its item id and the seed).
        width: numbers kept ready per picture.
    """

    def __init__(self, keys: Sequence[str], width: int = 128):
        self.keys = list(keys)
        self._rows = torch.empty(len(self.keys), width, dtype=torch.float64)
        generator = torch.Generator()
        for row, key in zip(self._rows, self.keys, strict=True):
            generator.manual_seed(seed_of(key))
            row.uniform_(generator=generator)
        self._next = 0

    def __len__(self) -> int:
        return len(self.keys)

    def take(self, count: int = 1) -> Tensor:
        """The next `count` columns: (n, count) float64 in [0, 1)."""
        start, self._next = self._next, self._next + count
        if self._next > self._rows.shape[1]:
            raise ValueError(
                f"Draws: a picture has {self._rows.shape[1]} random numbers, {self._next} were asked for. "
                "Make Draws with a larger width."
            )
        return self._rows[:, start : self._next]

    def one(self, low: float = 0.0, high: float = 1.0) -> Tensor:
        """(n,) float64 in [low, high)."""
        return low + (high - low) * self.take()[:, 0]

    def choose(self, count: int | Tensor) -> Tensor:
        """(n,) int64 in [0, count); `count` may be given per picture, (n,)."""
        return (self.take()[:, 0] * count).long()

    def noise(self, shape: tuple[int, ...], channel: str) -> Tensor:
        """Standard normal numbers (n, *shape), float32, independent of the columns."""
        out = torch.empty(len(self.keys), *shape)
        generator = torch.Generator()
        for row, key in zip(out, self.keys, strict=True):
            generator.manual_seed(seed_of(f"{key}#{channel}"))
            row.normal_(generator=generator)
        return out
