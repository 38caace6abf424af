"""Land seen from above: forest, river, highway ... as weights between a few earthy colours."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from cliptune.data.tinyworld.surfaces import soft_step

LANDS = ("forest", "river", "highway", "houses", "field", "lake", "desert", "pasture", "harbour", "crossroads")

_COLOURS = {
    "tree": (0.13, 0.27, 0.13), "meadow": (0.42, 0.52, 0.29), "soil": (0.55, 0.45, 0.32), "sand": (0.80, 0.68, 0.48),
    "water": (0.13, 0.26, 0.38), "tar": (0.36, 0.36, 0.38), "paint": (0.92, 0.91, 0.84), "roof": (0.63, 0.32, 0.25),
    "dune": (0.66, 0.52, 0.34), "crop": (0.66, 0.63, 0.30), "light": (0.27, 0.43, 0.22), "boat": (0.93, 0.93, 0.95),
}  # fmt: skip

# Arguments: across, along (pixels in a turned frame), clouds, grain in [0, 1], v a number in [0, 1] per picture.
Painter = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]


def _colour(name: str) -> Tensor:
    return torch.tensor(_COLOURS[name])[None, :, None, None]


def _blend(under: Tensor | str, over: str, weight: Tensor) -> Tensor:
    base = _colour(under) if isinstance(under, str) else under
    return base + (_colour(over) - base) * weight[:, None]


def _forest(u: Tensor, w: Tensor, clouds: Tensor, grain: Tensor, v: Tensor) -> Tensor:
    return _blend("tree", "light", (1.5 * grain - 0.25 + 0.3 * (clouds - 0.5)).clamp(0, 1))


def _ground(clouds: Tensor, grain: Tensor) -> Tensor:
    """Mixed country, the same behind rivers and roads, so that the ground does not give the class away."""
    return _blend(_blend("meadow", "soil", soft_step(clouds - 0.55, 0.2)), "light", 0.35 * grain)


def _river(u: Tensor, w: Tensor, clouds: Tensor, grain: Tensor, v: Tensor) -> Tensor:
    bend = u + 7 * torch.sin(w * 0.11 + 6 * v) + 3 * torch.sin(w * 0.23 + 9 * v)
    return _blend(_ground(clouds, grain), "water", soft_step(5 + 2 * v - bend.abs(), 0.7))


def _road(under: Tensor, u: Tensor, w: Tensor) -> Tensor:
    tar = _blend(under, "tar", soft_step(5.5 - u.abs(), 0.5))
    dashes = soft_step(0.9 - u.abs(), 0.5) * soft_step(torch.sin(w * 0.9), 0.3)
    return _blend(tar, "paint", dashes)


def _highway(u: Tensor, w: Tensor, clouds: Tensor, grain: Tensor, v: Tensor) -> Tensor:
    return _road(_ground(clouds, grain), u, w)


def _crossroads(u: Tensor, w: Tensor, clouds: Tensor, grain: Tensor, v: Tensor) -> Tensor:
    return _road(_road(_ground(clouds, grain), u, w), w, u)


def _houses(u: Tensor, w: Tensor, clouds: Tensor, grain: Tensor, v: Tensor) -> Tensor:
    pitch = 13 + 3 * v
    dx, dy = (u - (u / pitch).round() * pitch).abs(), (w - (w / pitch).round() * pitch).abs()
    roof = soft_step(3.8 - torch.maximum(dx, dy * 1.2), 0.5)
    return _blend(_blend(_ground(clouds, grain), "roof", roof), "paint", roof * soft_step(0.7 - dx, 0.4) * 0.6)


def _field(u: Tensor, w: Tensor, clouds: Tensor, grain: Tensor, v: Tensor) -> Tensor:
    plot = ((u / 22 + v).floor() + (w / 22).floor()) % 2
    rows = 0.5 + 0.5 * torch.sin(torch.where(plot > 0, u, w) * 1.4)
    return _blend(_blend("crop", "meadow", plot), "soil", 0.7 * rows)


def _lake(u: Tensor, w: Tensor, clouds: Tensor, grain: Tensor, v: Tensor) -> Tensor:
    shore = torch.hypot(u * (1.1 - 0.3 * v), w) - 17 + 12 * (clouds - 0.5)
    return _blend(_ground(clouds, grain), "water", soft_step(-shore, 0.8))


def _desert(u: Tensor, w: Tensor, clouds: Tensor, grain: Tensor, v: Tensor) -> Tensor:
    dunes = 0.5 + 0.5 * torch.sin(u * 0.45 + 8 * clouds)
    return _blend("sand", "dune", 0.8 * dunes * dunes + 0.2 * grain)


def _pasture(u: Tensor, w: Tensor, clouds: Tensor, grain: Tensor, v: Tensor) -> Tensor:
    fence = torch.minimum((u - (u / 26).round() * 26).abs(), (w - (w / 26).round() * 26).abs())
    return _blend(_blend("meadow", "light", 0.7 * clouds + 0.2 * grain), "soil", soft_step(0.9 - fence, 0.5))


def _harbour(u: Tensor, w: Tensor, clouds: Tensor, grain: Tensor, v: Tensor) -> Tensor:
    sea = _blend("water", "tree", 0.3 * clouds)
    boats = torch.hypot((u - (u / 8).round() * 8) * 1.0, (w - (w / 12).round() * 12) * 0.45) - 2.1
    sea = _blend(sea, "boat", soft_step(-boats, 0.5) * soft_step(u + 8, 0.5))
    return _blend(sea, "soil", soft_step(-8 - u, 0.6))


_PAINTERS: dict[str, Painter] = {
    "forest": _forest, "river": _river, "highway": _highway, "houses": _houses, "field": _field, "lake": _lake,
    "desert": _desert, "pasture": _pasture, "harbour": _harbour, "crossroads": _crossroads,
}  # fmt: skip


def land(kind: Tensor, across: Tensor, along: Tensor, clouds: Tensor, grain: Tensor, variant: Tensor) -> Tensor:
    """Land from above.

    Args:
        kind: (n,) int64, index into `LANDS`.
        across, along: (n, h, w) pixels in a frame turned per picture.
        clouds, grain: (n, h, w) slow and fast noise in [0, 1].
        variant: (n,) in [0, 1].
    Returns: (n, 3, h, w) in [0, 1].
    """
    out = torch.empty(len(kind), 3, *across.shape[1:])
    for index in kind.unique().tolist():
        rows = (kind == index).nonzero().squeeze(1)
        out[rows] = _PAINTERS[LANDS[index]](
            across[rows], along[rows], clouds[rows], grain[rows], variant[rows, None, None]
        )
    return out
