"""Work on many pictures in threads, with few of them waiting at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

_In = TypeVar("_In")
_Out = TypeVar("_Out")
# Answers that are waited for together; a pool's own `map` would ask for all at once, over 2 KiB for each of a million.
PIECE = 1024


def mapped(function: Callable[[_In], _Out], values: Iterable[_In], threads: int = 1) -> Iterator[_Out]:
    """`function` of every value, in order, `threads` at a time."""
    waiting = iter(values)
    with ThreadPoolExecutor(max(1, threads)) as pool:
        while piece := list(islice(waiting, PIECE)):
            yield from pool.map(function, piece)
