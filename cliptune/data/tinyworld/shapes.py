"""Signed distance functions of the shapes, vectorised over pictures.

All take local coordinates x (right), y (down), each (n, h, w), in which the shape has radius about 1, and return
the signed distance (n, h, w), negative inside. After Inigo Quilez' catalogue of two-dimensional distances.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

Distance = Callable[[Tensor, Tensor, Tensor], Tensor]


def disc(x: Tensor, y: Tensor, radius: float = 1.0, cx: float = 0.0, cy: float = 0.0) -> Tensor:
    return torch.hypot(x - cx, y - cy) - radius


def box(x: Tensor, y: Tensor, half_w: float, half_h: float, cx: float = 0.0, cy: float = 0.0) -> Tensor:
    """Distance to a rectangle around (cx, cy); exact inside, at the sides and at the corners."""
    dx, dy = (x - cx).abs() - half_w, (y - cy).abs() - half_h
    return torch.hypot(dx.clamp(min=0), dy.clamp(min=0)) + torch.maximum(dx, dy).clamp(max=0)


def polygon(x: Tensor, y: Tensor, corners: Sequence[tuple[float, float]]) -> Tensor:
    """Exact distance to a simple polygon with the given corners, in order."""
    nearest = torch.full_like(x, math.inf)
    inside = torch.zeros_like(x, dtype=torch.bool)
    for (ax, ay), (bx, by) in zip(corners, [*corners[1:], corners[0]], strict=True):
        ex, ey = bx - ax, by - ay
        wx, wy = x - ax, y - ay
        t = ((wx * ex + wy * ey) / (ex * ex + ey * ey)).clamp_(0, 1)
        nearest = torch.minimum(nearest, (wx - t * ex).square_() + (wy - t * ey).square_())
        if ay != by:  # even-odd rule: a ray to the right crosses this edge
            crosses = ((y >= ay) != (y >= by)) & (wx < wy * (ex / ey))
            inside ^= crosses
    distance = nearest.sqrt_()
    return torch.where(inside, -distance, distance)


def ellipse(x: Tensor, y: Tensor, half_w: float, half_h: float, cx: float = 0.0, cy: float = 0.0) -> Tensor:
    """First-order distance to an ellipse: exact at its border, which is all that drawing needs."""
    px, py = (x - cx) / half_w, (y - cy) / half_h
    level = torch.hypot(px, py)
    slope = torch.hypot(px / half_w, py / half_h).clamp(min=1e-4)
    return (level - 1) * level / slope


def _star_corners(points: int, inner: float) -> list[tuple[float, float]]:
    return [
        (radius * math.sin(math.pi * i / points), -radius * math.cos(math.pi * i / points))
        for i in range(2 * points)
        for radius in [1.1 if i % 2 == 0 else inner]
    ]


def heart(x: Tensor, y: Tensor) -> Tensor:
    """Two discs over a triangle that touches both."""
    lobes = torch.minimum(disc(x, y, 0.5, -0.46, -0.36), disc(x, y, 0.5, 0.46, -0.36))
    return torch.minimum(lobes, polygon(x, y, [(-0.88, -0.1), (0, -0.5), (0.88, -0.1), (0, 1.0)]))


def crescent(x: Tensor, y: Tensor) -> Tensor:
    return torch.maximum(disc(x, y, 1.0), -disc(x, y, 0.86, 0.5, -0.12))


def fish(x: Tensor, y: Tensor, length: Tensor) -> Tensor:
    """Body and tail; `length` (n, 1, 1) in [0, 1] makes the body round (0) or long (1)."""
    height = 0.66 - 0.26 * length
    body = ellipse(x, y * 0.5 / height, 0.76, 0.5, -0.26)
    tail = polygon(x, y, [(0.3, 0.0), (1.1, -0.62), (0.88, 0.0), (1.1, 0.62)])
    return torch.minimum(body, tail)


def flower(x: Tensor, y: Tensor, petals: Tensor) -> Tensor:
    """Round petals around the centre; `petals` (n, 1, 1) is their number."""
    angle = torch.atan2(y, x)
    radius = torch.hypot(x, y)
    wave = torch.cos(angle * petals * 0.5).abs()  # one lobe per petal
    return (radius - (0.38 + 0.7 * wave)) * 0.7


def key(x: Tensor, y: Tensor) -> Tensor:
    bow = disc(x, y, 0.3, 0, -0.62).abs() - 0.16
    shaft = box(x, y, 0.14, 0.62, 0, 0.42)
    teeth = torch.minimum(box(x, y, 0.22, 0.1, 0.3, 0.9), box(x, y, 0.2, 0.1, 0.28, 0.52))
    return torch.minimum(bow, torch.minimum(shaft, teeth))


def mug(x: Tensor, y: Tensor) -> Tensor:
    handle = disc(x, y, 0.4, 0.5, 0.05).abs() - 0.13
    return torch.minimum(box(x, y, 0.56, 0.8, -0.22), handle)


def mushroom(x: Tensor, y: Tensor) -> Tensor:
    cap = torch.maximum(disc(x, y, 0.95, 0, 0.05), y - 0.05)
    return torch.minimum(cap, box(x, y, 0.27, 0.5, 0, 0.5))


def tree(x: Tensor, y: Tensor) -> Tensor:
    crown = torch.minimum(
        polygon(x, y, [(0, -1.1), (0.62, -0.1), (-0.62, -0.1)]), polygon(x, y, [(0, -0.6), (0.85, 0.6), (-0.85, 0.6)])
    )
    return torch.minimum(crown, box(x, y, 0.17, 0.3, 0, 0.8))


def bottle(x: Tensor, y: Tensor) -> Tensor:
    return torch.minimum(box(x, y, 0.46, 0.62, 0, 0.42), box(x, y, 0.17, 0.5, 0, -0.56))


_TRIANGLE = [(0.0, -1.0), (1.0, 0.8), (-1.0, 0.8)]
_ARROW = [(-1.05, -0.28), (0.0, -0.28), (0.0, -0.8), (1.1, 0.0), (0.0, 0.8), (0.0, 0.28), (-1.05, 0.28)]
_DIAMOND = [(0.0, -1.15), (0.68, 0.0), (0.0, 1.15), (-0.68, 0.0)]
_HOURGLASS = [(-0.8, -1.0), (0.8, -1.0), (0.1, 0.0), (0.8, 1.0), (-0.8, 1.0), (-0.1, 0.0)]
_HOUSE = [(0.0, -1.05), (1.0, -0.2), (0.72, -0.2), (0.72, 0.9), (-0.72, 0.9), (-0.72, -0.2), (-1.0, -0.2)]
_BOLT = [(0.2, -1.1), (-0.62, 0.14), (-0.06, 0.14), (-0.3, 1.1), (0.64, -0.24), (0.08, -0.24), (0.62, -1.1)]
_STAR = _star_corners(5, 0.46)

# The third argument is a number in [0, 1] per picture, (n, 1, 1), for shapes that have a variable part.
DISTANCES: dict[str, Distance] = {
    "circle": lambda x, y, v: disc(x, y, 0.95),
    "square": lambda x, y, v: box(x, y, 0.82, 0.82),
    "triangle": lambda x, y, v: polygon(x, y, _TRIANGLE),
    "star": lambda x, y, v: polygon(x, y, _STAR),
    "cross": lambda x, y, v: torch.minimum(box(x, y, 1.0, 0.33), box(x, y, 0.33, 1.0)),
    "heart": lambda x, y, v: heart(x, y),
    "ring": lambda x, y, v: disc(x, y, 0.74).abs() - 0.26,
    "crescent": lambda x, y, v: crescent(x, y),
    "arrow": lambda x, y, v: polygon(x, y, _ARROW),
    "diamond": lambda x, y, v: polygon(x, y, _DIAMOND),
    "fish": lambda x, y, v: fish(x, y, v),
    "flower": lambda x, y, v: flower(x, y, 3 + (v * 6).floor()),
    "hourglass": lambda x, y, v: polygon(x, y, _HOURGLASS),
    "house": lambda x, y, v: polygon(x, y, _HOUSE),
    "lightning bolt": lambda x, y, v: polygon(x, y, _BOLT),
    "mushroom": lambda x, y, v: mushroom(x, y),
    "mug": lambda x, y, v: mug(x, y),
    "key": lambda x, y, v: key(x, y),
    "bottle": lambda x, y, v: bottle(x, y),
    "tree": lambda x, y, v: tree(x, y),
}
SHAPES = tuple(DISTANCES)


def distance(shape: Tensor, x: Tensor, y: Tensor, variant: Tensor) -> Tensor:
    """Signed distance of each picture's own shape.

    Args:
        shape: (n,) int64, index into `SHAPES`.
        x, y: (n, h, w) local coordinates.
        variant: (n,) in [0, 1], the variable part (petals of a flower, length of a fish).
    Returns: (n, h, w).
    """
    out = torch.empty_like(x)
    for index in shape.unique().tolist():
        rows = (shape == index).nonzero().squeeze(1)
        out[rows] = DISTANCES[SHAPES[index]](x[rows], y[rows], variant[rows, None, None])
    return out
