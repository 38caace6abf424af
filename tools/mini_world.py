"""What `mini` sees while it is pre-trained: single pictures of Tinyworld, a part of the world withheld."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from cliptune.data.tinyworld.captions import facts
from cliptune.data.tinyworld.domains import shift
from cliptune.data.tinyworld.draws import Draws
from cliptune.data.tinyworld.render import render
from cliptune.data.tinyworld.scene import ATTRIBUTES, Chooser, compose

SHAPES_SEEN = ATTRIBUTES["shape"][:12]
LANDS_SEEN = ATTRIBUTES["land"][:7]
NEVER_NAMED = {
    "count": ("five", "six"),
    "background": ("wood", "sky"),
    "place": ("top left", "top right", "bottom left", "bottom right"),
}
PATCH = 8

# Kinds of pictures and their share. Early pictures are larger (see `large`).
_SINGLE = {"kind": ["object"], "shape": SHAPES_SEEN, "count": ["one"]}
_MIX: list[tuple[float, dict]] = [
    (0.40, {**_SINGLE, "size": ["large", "medium"]}),
    (0.10, {**_SINGLE, "size": ["small"]}),
    (0.09, {**_SINGLE, "shape": ["flower"], "size": ["large", "medium"], "texture": ["plain"]}),
    (0.05, {**_SINGLE, "shape": ["fish"], "size": ["large", "medium"]}),
    (0.13, {"kind": ["object"], "shape": SHAPES_SEEN, "count": ["two", "three", "four", "five", "six"]}),
    (0.10, {"kind": ["surface"]}),
    (0.13, {"kind": ["land"], "land": LANDS_SEEN}),
]
_LARGE: list[tuple[float, dict]] = [
    (0.78, {**_SINGLE, "size": ["large"]}),
    (0.05, {"kind": ["object"], "shape": SHAPES_SEEN, "count": ["two", "three", "four"]}),
    (0.08, {"kind": ["surface"]}),
    (0.09, {"kind": ["land"], "land": LANDS_SEEN}),
]
_DOMAIN_SHARES = {"sketch": 0.06, "night": 0.06}


@dataclass(frozen=True)
class Pictures:
    """images (n, 3, 64, 64) in [0, 1]; coverage (n, 64, 64) in [0, 1]; attributes name → (n,) int64;
    domain per picture."""

    images: Tensor
    coverage: Tensor
    attributes: dict[str, Tensor]
    domain: list[str]


def withheld_pair(shape: Tensor, colour: Tensor) -> Tensor:
    """A fifth of the pairs of shape and colour is never seen together."""
    return (7 * shape + 3 * colour) % 5 == 0


class World:
    """Endless pictures, a pure function of (seed, number).

    Args:
        seed: of the pre-training.
        large: only large single objects for the most part, as a start.
    """

    def __init__(self, seed: int, large: bool = False):
        mix = _LARGE if large else _MIX
        self._seed, self._tag = seed, "large" if large else "all"
        self._chooser = Chooser([allowed for _, allowed in mix])
        self._shares = torch.tensor([share for share, _ in mix], dtype=torch.float64).cumsum(0)
        self._domains = {} if large else _DOMAIN_SHARES

    def pictures(self, start: int, count: int) -> Pictures:
        """Pictures number start … start + count − 1."""
        draws = Draws([f"pretrain/{self._seed}/{self._tag}/{i}" for i in range(start, start + count)])
        part = torch.bucketize(draws.one() * self._shares[-1], self._shares, right=True)
        attributes = self._chooser.attributes(part.clamp(max=len(self._shares) - 1), draws)
        never = withheld_pair(attributes["shape"], attributes["colour"]) & (attributes["kind"] == 0)
        attributes["colour"] = torch.where(never, (attributes["colour"] + 1) % 10, attributes["colour"])
        images, coverage = render(compose(attributes, draws))
        domain = ["photo"] * count
        chance, low = draws.one(), 0.0
        for name, share in self._domains.items():
            rows = ((chance >= low) & (chance < low + share) & (attributes["kind"] == 0)).nonzero().squeeze(1)
            low += share
            if len(rows):
                some = Draws([draws.keys[i] for i in rows.tolist()], width=1)
                images[rows] = shift(images[rows], name, some)
                for i in rows.tolist():
                    domain[i] = name
        return Pictures(images, coverage, attributes, domain)


def targets(pictures: Pictures) -> dict[str, Tensor]:
    """What each attribute head should say, (n,) int64 per head; −1 where it is not asked: where the attribute does
    not apply, and where its value is one that is never named.
    """
    known = facts(pictures.attributes, pictures.domain)
    asked = {name: (known[name] >= 0) & (known[name] < count) for name, count in HEADS.items()}
    asked["texture"] &= known["petals"] < 0  # petals are too small to show one
    return {name: torch.where(asked[name], known[name], -1) for name in HEADS}


# Named values come first in their tables, so a head's size also says which values are asked.
HEADS = {
    "kind": 3, "shape": 12, "colour": 10, "texture": 10, "background": 6, "size": 3, "across": 3, "down": 3,
    "count": 4, "land": 7, "petals": 6, "length": 3, "second": 10,
}  # fmt: skip
