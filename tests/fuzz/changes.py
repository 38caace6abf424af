"""Cases: valid content changed byte by byte or value by value, and content that is odd as a whole."""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from random import Random
from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

_BYTES = (0, 1, 0x20, 0x22, 0x2C, 0x2E, 0x2F, 0x5B, 0x5C, 0x7B, 0x7F, 0x80, 0xC3, 0xED, 0xFE, 0xFF)
_NUMBERS = (0, 1, -1, 255, 256, 65535, 65536, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**63, 2**64, 10**30)

ODD_TEXTS = (
    "",
    " ",
    "..",
    "../up",
    "/above",
    "~",
    "a\\b",
    "C:\\x",
    "nul\0nul",
    "line\nline",
    "\x1b[31m",
    "\u2028",
    "é",
)
ODD: tuple[Any, ...] = (
    *ODD_TEXTS, "\ud800", "x" * 3000, None, True, False, *_NUMBERS, 0.5, -0.0, 1e308, float("inf"), float("nan"),
    [], {}, [[]], {"": None}, [None], [1, 2, 3], {"a": {"b": []}},
)  # fmt: skip
"""Values of every kind that JSON and YAML have, none of which is likely to be wanted."""

DEEP = 20_000
ODD_JSON = (
    b"", b" ", b"null", b"[]", b"{}", b'"text"', b"0", b"NaN", b"\xef\xbb\xbf{}", b"\xff\xfe{\x00}\x00", b"{\x00}",
    b"[" * DEEP, b"[" * DEEP + b"]" * DEEP, b'{"a":' * DEEP, b"[" + b"9" * 5000 + b"]", b'{"a": 1, "a": 2}', b"[1e999]",
    b"<!DOCTYPE html>", b'["\\ud800"]', b"{'a': 1}",
)  # fmt: skip
"""Whole documents that are no or odd JSON."""


def changed_bytes(seeds: Sequence[bytes]) -> SearchStrategy[bytes]:
    """One of the seeds with one to eight changes."""
    return st.builds(lambda seed, n: mutated(seed, seeds, Random(n)), st.sampled_from(seeds), st.integers(0, 2**48))


def changed_values(seeds: Sequence[Any]) -> SearchStrategy[Any]:
    """One of the seeds, plain nested values, with one to three changes."""
    return st.builds(lambda seed, n: _replant(seed, Random(n)), st.sampled_from(seeds), st.integers(0, 2**48))


def values() -> SearchStrategy[Any]:
    """Any value that JSON has."""
    leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
    return st.recursive(leaves, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=12)


def json_cases(seeds: Sequence[Any]) -> SearchStrategy[bytes]:
    """Files of JSON: the seeds, changed as values or as bytes, any other JSON, and none."""
    written = [to_json(seed) for seed in seeds]
    return st.one_of(
        changed_values(seeds).map(to_json),
        changed_bytes(written),
        values().map(to_json),
        st.sampled_from([*written, *ODD_JSON]),
    )


def to_json(value: Any) -> bytes:
    return json.dumps(value).encode()


def mutated(seed: bytes, seeds: Sequence[bytes], draw: Random) -> bytes:
    """A copy with one to eight changes; pieces of the other seeds among them."""
    data = bytearray(seed)
    for _ in range(draw.choice((1, 1, 1, 2, 3, 8))):
        at = draw.randrange(len(data) + 1)
        # A header says most in the fewest bytes.
        at = min(at, draw.randrange(256)) if draw.random() < 0.5 else at
        to = min(len(data), at + draw.choice((1, 1, 2, 4, 16, 64)))
        kind = draw.randrange(9)
        if kind == 0 and at < len(data):
            data[at] ^= 1 << draw.randrange(8)
        elif kind == 1 and at < len(data):
            data[at] = draw.choice(_BYTES)
        elif kind == 2:
            del data[at:to]
        elif kind == 3:
            data[at:at] = data[at:to]
        elif kind == 4:
            data[at:at] = draw.randbytes(draw.choice((1, 2, 8, 32)))
        elif kind == 5:
            del data[at:]
        elif kind == 6:
            number = draw.choice(_NUMBERS) % 2**64
            size = draw.choice((1, 2, 4, 8))
            data[at : at + size] = (number % 256**size).to_bytes(size, draw.choice(("little", "big")))
        elif kind == 7:
            data[at:to] = str(draw.choice(_NUMBERS)).encode()
        else:
            other = draw.choice(seeds)
            start = draw.randrange(len(other) + 1)
            data[at:to] = other[start : start + draw.choice((4, 32, 256))]
    return bytes(data)


def _replant(seed: Any, draw: Random) -> Any:
    """A copy in which values at random places are odd, a neighbour's, missing, twice there, or under another name."""
    holder = [copy.deepcopy(seed)]
    for _ in range(draw.choice((1, 1, 2, 3))):
        parent: Any = holder
        key: Any = 0
        while isinstance(parent[key], (dict, list)) and parent[key] and (parent is holder or draw.random() < 0.8):
            parent = parent[key]
            key = draw.choice(list(parent)) if isinstance(parent, dict) else draw.randrange(len(parent))
        kind = draw.randrange(6)
        siblings = list(parent.values()) if isinstance(parent, dict) else parent
        if kind == 5:
            parent[key] = copy.deepcopy(draw.choice(siblings))
        elif kind == 0 and parent is not holder:
            del parent[key]
        elif kind == 1 and isinstance(parent, dict):
            parent[draw.choice(ODD_TEXTS)] = parent.pop(key)
        elif kind == 2 and isinstance(parent, list) and parent is not holder:
            parent.insert(key, parent[key])
        else:
            parent[key] = copy.deepcopy(draw.choice(ODD))
    return holder[0]
