"""The same picture twice: files of equal bytes, pictures of equal pixels, pictures that look alike."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np

from cliptune.data.items import SPLITS, Dataset
from cliptune.data.sources import FileSource
from cliptune.doctor.findings import ERROR, HINT, WARNING, Finding

Place = tuple[str, int]
"""A picture: its split and its position in it."""

TAIL = 4096
"""Bytes at a file's end that are compared before all are: beginnings are often alike."""


def places_of(data: Dataset) -> list[Place]:
    """All pictures in files, split by split."""
    return [(s, i) for s in SPLITS if isinstance(data[s].source, FileSource) for i in range(len(data[s]))]


def path_of(data: Dataset, place: Place) -> Path:
    split, i = place
    source = data[split].source
    assert isinstance(source, FileSource)  # as `places_of` says
    return source.root / source.paths[data[split].rows[i]]


def equal_files(data: Dataset) -> list[list[Place]]:
    """Groups of pictures whose files are equal byte for byte.

    Files are read only as far as it needs to tell them apart: those of another size not at all.
    """
    groups = [places_of(data)]
    for tell in (_size, _tail, _content):
        groups = [same for group in groups for same in grouped(group, (tell(path_of(data, p)) for p in group))]
    return groups


def grouped(places: Sequence[Place], keys: Iterable[Hashable]) -> list[list[Place]]:
    """Pictures with the same key, of keys that more than one has; None is no key."""
    found: dict[Hashable, list[Place]] = defaultdict(list)
    for place, key in zip(places, keys, strict=True):
        if key is not None:
            found[key].append(place)
    return [group for group in found.values() if len(group) > 1]


def _size(path: Path) -> int:
    return path.stat().st_size


def _tail(path: Path) -> bytes:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - TAIL))
        return hashlib.blake2b(file.read(), digest_size=16).digest()


def _content(path: Path) -> bytes:
    sha256 = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            sha256.update(chunk)
    return sha256.digest()


def alike(
    places: Sequence[Place], hashes: np.ndarray, most: int, cuts: np.ndarray | None = None, most_cut: int = 0
) -> list[list[Place]]:
    """Groups of pictures that are linked by hashes with at most `most` different bits.

    Args:
        places: N pictures. hashes: (N,) uint64, one each.
        most: bits. Of numbers that differ in so few, cut into one piece more, at least one piece is equal: only
            pictures that share a piece are compared.
        cuts: (N, cuts) uint64, hashes of parts of each; a picture is linked to one of whose parts its hash differs in
            at most `most_cut` bits. Parts are not compared with each other.
    """
    if not len(places):
        return []
    values, owner = np.unique(hashes, return_inverse=True)
    parent = np.arange(len(values))
    for shift, width in _pieces(most + 1):
        piece = (values >> np.uint64(shift)) & np.uint64((1 << width) - 1)
        order = np.argsort(piece, kind="stable")
        starts = np.flatnonzero(np.diff(piece[order], prepend=piece[order][:1] + np.uint64(1)))
        for begin, end in zip(starts, [*starts[1:], len(order)], strict=True):
            _link(values, order[begin:end], most, parent)
    if cuts is not None:
        _link_cuts(values, cuts.reshape(-1), np.repeat(owner, cuts.shape[1]), most_cut, parent)
    roots = np.array([_root(parent, int(i)) for i in range(len(values))], dtype=np.int64)[owner]
    return grouped(places, roots.tolist())


def _pieces(n: int) -> Iterator[tuple[int, int]]:
    """(lowest bit, bits) of 64 bits in n pieces."""
    ends = [round(64 * k / n) for k in range(n + 1)]
    for begin, end in pairwise(ends):
        yield begin, end - begin


def _link(values: np.ndarray, members: np.ndarray, most: int, parent: np.ndarray) -> None:
    """Join those of `members` whose values differ in at most `most` bits."""
    for k in range(len(members) - 1):
        rest = members[k + 1 :]
        for other in rest[_ones(values[rest] ^ values[members[k]]) <= most]:
            parent[_root(parent, int(other))] = _root(parent, int(members[k]))


def _link_cuts(values: np.ndarray, cuts: np.ndarray, owner: np.ndarray, most: int, parent: np.ndarray) -> None:
    """Join `values` with the owners of `cuts` that differ from them in at most `most` bits."""
    for shift, width in _pieces(most + 1):
        pieces = [(numbers >> np.uint64(shift)) & np.uint64((1 << width) - 1) for numbers in (values, cuts)]
        orders = [np.argsort(piece, kind="stable") for piece in pieces]
        keys = np.intersect1d(*pieces)
        begins, ends = (
            [np.searchsorted(piece[order], keys, side) for piece, order in zip(pieces, orders, strict=True)]
            for side in ("left", "right")
        )
        for bucket in range(len(keys)):
            whole, part = (orders[k][begins[k][bucket] : ends[k][bucket]] for k in (0, 1))
            for start in range(0, len(whole), _ROWS):
                rows = whole[start : start + _ROWS]
                differing = _ones((values[rows, None] ^ cuts[part]).reshape(-1)).reshape(len(rows), len(part))
                for row, column in np.argwhere(differing <= most):
                    parent[_root(parent, int(rows[row]))] = _root(parent, int(owner[part[column]]))


_ROWS = 256
"""Numbers that are compared with a bucket at once, to bound the memory."""


def _root(parent: np.ndarray, i: int) -> int:
    while parent[i] != i:
        parent[i] = parent[parent[i]]
        i = int(parent[i])
    return i


_ONES = np.array([bin(value).count("1") for value in range(1 << 16)], dtype=np.uint8)


def _ones(values: np.ndarray) -> np.ndarray:
    """Bits that are set in each, (N,)."""
    return _ONES[np.ascontiguousarray(values).view(np.uint16).reshape(-1, 4)].sum(axis=1)


def findings_on(data: Dataset, groups: Sequence[Sequence[Place]], *, near: bool = False) -> list[Finding]:
    """What groups of the same picture mean: across splits, across classes, within a class.

    Args:
        near: the pictures of a group look alike, and need not be the same.
    """
    leaks = [group for group in groups if len({split for split, _ in group}) > 1]
    conflicts = [group for group in groups if len({data[split][i].label for split, i in group}) > 1]
    inside = [group for group in groups if group not in leaks and group not in conflicts]
    what = "Pictures that look alike" if near else "The same pictures"
    severity = WARNING if near else ERROR
    prefix = "near_" if near else ""
    look = "Look at them, and keep" if near else "Keep"
    found = (
        ("leak", severity, leaks, f"in more than one of train, val and test, which flatters the numbers. {look} one"),
        ("conflict", severity, conflicts, f"in several classes. {look} each in the class that it shows"),
        ("duplicate", HINT if near else WARNING, inside, "in one class more than once, and count as often"),
    )
    return [
        Finding(prefix + kind, level, f"{what} are {said}.", tuple(_case(data, group) for group in cases))
        for kind, level, cases, said in found
        if cases
    ]


def _case(data: Dataset, group: Sequence[Place]) -> str:
    """The pictures of a group by split, class and path; not more than four of them."""
    said = [f"{split}: {data[split][i].path}" for split, i in group[:4]]
    return " = ".join(said) + (f" and {len(group) - 4} more" if len(group) > 4 else "")
