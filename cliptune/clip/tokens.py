"""Token ids of texts with places for prompt tokens, and how to run them without computing anything twice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from cliptune.clip.towers.layout import TEXT_GROUPS, TokenLayout


@dataclass(frozen=True)
class TokenBatch:
    """K texts as CLIP reads them.

    Args:
        ids: (K, T) int64; everything after the end of text is padding.
        slots: (K, n) int64, positions of the placeholders that prompt tokens replace; (K, 0) for none.
        ends: (K,) int64, position of the end-of-text token; None where its id is the largest of its row.
        head: tokens in front of the first word that stand for the start of a text.
    """

    ids: Tensor
    slots: Tensor
    ends: Tensor | None = field(default=None, kw_only=True)
    head: int = field(default=1, kw_only=True)

    @classmethod
    def plain(cls, ids: Tensor, **marks: Any) -> TokenBatch:
        """Texts without prompt places; `marks` are `ends` and `head`."""
        return cls(ids, ids.new_zeros(len(ids), 0), **marks)

    @property
    def marks(self) -> dict[str, Any]:
        """`ends` and `head`, for other texts of the same lengths."""
        return {"ends": self.ends, "head": self.head}

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def eot(self) -> Tensor:
        """(K,) position of the end-of-text token."""
        return self.ids.argmax(dim=-1) if self.ends is None else self.ends

    @cached_property
    def layout(self) -> TokenLayout:
        """Group of every position: sos, prompt, class (every other word), eot, pad."""
        position = torch.arange(self.ids.shape[1], device=self.ids.device)
        group = torch.full_like(self.ids, TEXT_GROUPS.index("class"))
        group[:, : self.head] = TEXT_GROUPS.index("sos")
        group.masked_fill_(position == self.eot[:, None], TEXT_GROUPS.index("eot"))
        group.masked_fill_(position > self.eot[:, None], TEXT_GROUPS.index("pad"))
        return TokenLayout(TEXT_GROUPS, group.scatter(1, self.slots, TEXT_GROUPS.index("prompt")))

    @cached_property
    def shared_length(self) -> int:
        """Leading positions with the same content in all texts (fact F3), never reaching an end of text."""
        n = self.slots.shape[1]
        marks = -1 - torch.arange(n, device=self.ids.device).expand(len(self), n)
        content = self.ids.scatter(1, self.slots, marks)
        differs = (content != content[:1]).any(dim=0).nonzero()
        first = int(differs[0]) if len(differs) else content.shape[1]
        return min(first, int(self.eot.min()))

    def plan(self, prefix: int, max_rows: int) -> PrefixPlan:
        """How to run the texts after a shared prefix of that many rows; remembered."""
        key = (prefix, max_rows)
        if key not in self._plans:
            self._plans[key] = PrefixPlan.of(self, prefix, max_rows)
        return self._plans[key]

    @cached_property
    def _plans(self) -> dict[tuple[int, int], PrefixPlan]:
        return {}


@dataclass(frozen=True)
class Chunk:
    """Some classes whose suffixes run together: rows packed without padding, grouped by length.

    Args:
        classes: (K',) the classes, in the order in which their rows stand.
        row_class, row_pos: (N,) class and position in the text of every packed row.
        lengths: per group, (number of classes, suffix length); the rows of a group are contiguous.
        last: (K',) packed row of each class's end of text.
        slot_rows, slot_class, slot: (S,) packed rows that are prompt places, their class and their place 0 … n−1.
    """

    classes: Tensor
    row_class: Tensor
    row_pos: Tensor
    lengths: tuple[tuple[int, int], ...]
    last: Tensor
    slot_rows: Tensor
    slot_class: Tensor
    slot: Tensor


@dataclass(frozen=True)
class PrefixPlan:
    """Shared prefix once, then the chunks of suffixes.

    Args:
        prefix: k, rows of the shared prefix.
        prefix_slots: (S,) which prompt places lie in the prefix; prefix_rows: (S,) where.
        chunks: at most about `max_rows` packed rows each.
        order: (K,) where each class's feature stands in the concatenated outputs of the chunks.
    """

    prefix: int
    prefix_slots: Tensor
    prefix_rows: Tensor
    chunks: tuple[Chunk, ...]
    order: Tensor

    @classmethod
    def of(cls, texts: TokenBatch, prefix: int, max_rows: int) -> PrefixPlan:
        device = texts.ids.device
        length = (texts.eot + 1 - prefix).tolist()
        by_length = sorted(range(len(texts)), key=length.__getitem__)
        parts: list[list[int]] = [[]]
        rows = 0
        for c in by_length:
            if parts[-1] and rows + length[c] > max_rows:
                parts.append([])
                rows = 0
            parts[-1].append(c)
            rows += length[c]
        slots = texts.slots.tolist()
        chunks = tuple(_chunk(part, length, slots, prefix, device) for part in parts)
        inside = [j for j, position in enumerate(slots[0]) if position < prefix]
        return cls(
            prefix,
            _numbers(inside, device),
            _numbers([slots[0][j] for j in inside], device),
            chunks,
            torch.cat([chunk.classes for chunk in chunks]).argsort(),
        )


def _numbers(values: Sequence[int], device: torch.device) -> Tensor:
    return torch.tensor(values, dtype=torch.int64, device=device)


def _chunk(part: list[int], length: list[int], slots: list[list[int]], prefix: int, device: torch.device) -> Chunk:
    row_class: list[int] = []
    row_pos: list[int] = []
    last: list[int] = []
    slot_rows: list[tuple[int, int, int]] = []
    groups: list[list[int]] = []
    for c in part:
        start = len(row_class)
        row_class += [c] * length[c]
        row_pos += range(prefix, prefix + length[c])
        last.append(len(row_class) - 1)
        slot_rows += [(start + p - prefix, c, j) for j, p in enumerate(slots[c]) if p >= prefix]
        if groups and groups[-1][1] == length[c]:
            groups[-1][0] += 1
        else:
            groups.append([1, length[c]])
    rows, classes, places = zip(*slot_rows, strict=True) if slot_rows else ((), (), ())
    return Chunk(
        _numbers(part, device),
        _numbers(row_class, device),
        _numbers(row_pos, device),
        tuple((count, size) for count, size in groups),
        _numbers(last, device),
        _numbers(rows, device),
        _numbers(classes, device),
        _numbers(places, device),
    )
