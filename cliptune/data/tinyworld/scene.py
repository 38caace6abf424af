"""A scene: what is in each picture, as numbers; and how attributes are drawn at random."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cliptune.data.tinyworld.draws import Draws
from cliptune.data.tinyworld.land import LANDS
from cliptune.data.tinyworld.shapes import SHAPES
from cliptune.data.tinyworld.surfaces import BACKGROUNDS, TEXTURES

SIDE = 64
KINDS = ("object", "surface", "land")
COLOURS: dict[str, tuple[float, float, float]] = {
    "red": (0.86, 0.12, 0.12),
    "orange": (0.98, 0.56, 0.08),
    "yellow": (0.97, 0.90, 0.16),
    "green": (0.14, 0.68, 0.22),
    "blue": (0.14, 0.28, 0.88),
    "purple": (0.55, 0.18, 0.72),
    "pink": (0.98, 0.52, 0.74),
    "brown": (0.46, 0.26, 0.10),
    "black": (0.08, 0.08, 0.10),
    "white": (0.97, 0.97, 0.97),
}
SIZES = ("small", "medium", "large")
_RADII = ((9.0, 11.5), (14.0, 17.5), (20.5, 25.0))
PLACES = (
    "top left", "top", "top right", "left", "centre", "right", "bottom left", "bottom", "bottom right",
)  # fmt: skip
COUNTS = ("one", "two", "three", "four", "five", "six")
VARIANTS = ("low", "second", "third", "fourth", "fifth", "high")  # sixths of a shape's variable part

# Every attribute with its values, in the order of their indices.
ATTRIBUTES: dict[str, tuple[str, ...]] = {
    "kind": KINDS, "shape": SHAPES, "colour": tuple(COLOURS), "texture": TEXTURES, "background": BACKGROUNDS,
    "size": SIZES, "place": PLACES, "count": COUNTS, "land": LANDS, "variant": VARIANTS,
    "second": tuple(COLOURS),
}  # fmt: skip

Allowed = Mapping[str, Sequence[str]]


@dataclass(frozen=True)
class Scene:
    """n pictures before they are drawn.

    attributes: name → (n,) int64, indices into `ATTRIBUTES[name]`.
    x, y: (n, 6) object centres in pixels; r: (n,) radius in pixels; angle: (n,) radians.
    variant: (n,) in [0, 1]; shade: (n, 4) colour jitter and second colour; period: (n,) texture repeat in pixels;
    shift: (n, 2) of the background in pixels; clouds, grain: (n, g, g) uniform noise grids.
    """

    attributes: dict[str, Tensor]
    x: Tensor
    y: Tensor
    r: Tensor
    angle: Tensor
    variant: Tensor
    shade: Tensor
    period: Tensor
    shift: Tensor
    clouds: Tensor
    grain: Tensor

    def __len__(self) -> int:
        return len(self.r)


class Chooser:
    """Draws attributes uniformly from what each class allows.

    Args:
        allowed: per class, attribute → values it may take; an attribute that is left out may take any value.
    Raises: ValueError for an unknown attribute or value.
    """

    def __init__(self, allowed: Sequence[Allowed]):
        self._tables: dict[str, tuple[Tensor, Tensor]] = {}
        for attribute, values in ATTRIBUTES.items():
            rows = [_indices(attribute, row.get(attribute, values)) for row in allowed]
            longest = max(len(row) for row in rows)
            table = torch.tensor([row + row[:1] * (longest - len(row)) for row in rows])
            self._tables[attribute] = (table, torch.tensor([len(row) for row in rows]))
        for row in allowed:
            unknown = sorted(set(row) - set(ATTRIBUTES))
            if unknown:
                raise ValueError(f"Chooser: unknown attributes {unknown}. Known: {', '.join(ATTRIBUTES)}.")

    def attributes(self, labels: Tensor, draws: Draws) -> dict[str, Tensor]:
        """name → (n,) int64 for pictures of these classes (n,)."""
        out = {}
        for attribute, (table, length) in self._tables.items():
            out[attribute] = table[labels, draws.choose(length[labels])]
        same = out["second"] == out["colour"]
        out["second"] = torch.where(same, (out["second"] + 1) % len(COLOURS), out["second"])
        out["count"] = torch.where(out["kind"] == KINDS.index("object"), out["count"], 0)
        return out


def _indices(attribute: str, values: Sequence[str]) -> list[int]:
    known = ATTRIBUTES[attribute]
    for value in values:
        if value not in known:
            raise ValueError(f"Tinyworld: {attribute} cannot be {value!r}. It may be one of: {', '.join(known)}.")
    return [known.index(value) for value in values]


def compose(attributes: dict[str, Tensor], draws: Draws) -> Scene:
    """Place the objects, turn them and draw all that is left to chance."""
    low = torch.tensor([low for low, _ in _RADII], dtype=torch.float64)
    high = torch.tensor([high for _, high in _RADII], dtype=torch.float64)
    size, count = attributes["size"], attributes["count"] + 1
    r = low[size] + (high - low)[size] * draws.one()
    several = count > 1
    r = torch.where(several, 7.5 + 2.0 * draws.one(), r)
    place = attributes["place"]
    reach = (30.5 - r).clamp(min=6.0) * 0.82
    jitter = (draws.take(2) - 0.5) * torch.where(several, 2.0, 5.0)[:, None]
    x = torch.empty(len(r), 6, dtype=torch.float64)
    y = torch.empty_like(x)
    cells = draws.take(9).argsort(1)[:, :6]  # six different cells of a 3 × 3 raster, for several objects
    centre = SIDE / 2
    x[:] = torch.where(several[:, None], (cells % 3 - 1) * 20.0, ((place % 3 - 1) * reach)[:, None])
    y[:] = torch.where(several[:, None], (cells // 3 - 1) * 20.0, ((place // 3 - 1) * reach)[:, None])
    x += centre + jitter[:, :1]
    y += centre + jitter[:, 1:]
    variant = (attributes["variant"] + 0.15 + 0.7 * draws.one()) / len(VARIANTS)
    return Scene(
        attributes=attributes,
        x=x.float(),
        y=y.float(),
        r=r.float(),
        angle=draws.one(-0.24, 0.24),
        variant=variant.float(),
        shade=draws.take(4).float(),
        period=draws.one(6.0, 8.5).float(),
        shift=draws.take(2).mul(SIDE * math.e).float(),
        clouds=draws.take(25).reshape(-1, 5, 5).float(),
        grain=draws.noise((SIDE // 2, SIDE // 2), "grain"),
    )
