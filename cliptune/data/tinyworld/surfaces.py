"""What fills a shape (textures), lies behind it (backgrounds) and how land looks from above."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

TEXTURES = (
    "plain", "striped", "dotted", "checkered", "zigzagged", "gridded", "marbled", "speckled", "ringed", "spiralled",
)  # fmt: skip
BACKGROUNDS = ("paper", "grass", "sand", "water", "snow", "bricks", "wood", "sky")

# Two muted colours per background, so that a saturated object stands out from each.
_BACKGROUND_COLOURS = {
    "paper": ((0.80, 0.79, 0.76), (0.74, 0.73, 0.71)),
    "grass": ((0.34, 0.47, 0.25), (0.22, 0.34, 0.16)),
    "sand": ((0.80, 0.70, 0.50), (0.68, 0.57, 0.38)),
    "water": ((0.30, 0.46, 0.56), (0.45, 0.61, 0.69)),
    "snow": ((0.93, 0.95, 0.98), (0.80, 0.85, 0.92)),
    "bricks": ((0.55, 0.36, 0.31), (0.72, 0.68, 0.64)),
    "wood": ((0.52, 0.40, 0.27), (0.41, 0.30, 0.19)),
    "sky": ((0.56, 0.70, 0.84), (0.86, 0.90, 0.94)),
}


def soft_step(value: Tensor, width: float | Tensor) -> Tensor:
    """0 below −width, 1 above width, a straight ramp between: an anti-aliased threshold."""
    return (value / (2 * width) + 0.5).clamp_(0, 1)


def smooth_noise(grid: Tensor, height: int, width: int) -> Tensor:
    """Clouds in [0, 1] from a coarse grid (n, g, g) of uniform numbers: (n, height, width)."""
    return F.interpolate(grid[:, None], size=(height, width), mode="bicubic", align_corners=True)[:, 0].clamp(0, 1)


def _triangle_wave(phase: Tensor) -> Tensor:
    """Period 1, between 0 (at whole numbers) and 1."""
    return ((phase - phase.floor()) * 2 - 1).abs()


def texture(kind: Tensor, x: Tensor, y: Tensor, period: Tensor, clouds: Tensor, grain: Tensor) -> Tensor:
    """How much of the second colour each pixel shows.

    Args:
        kind: (n,) int64, index into `TEXTURES`.
        x, y: (n, h, w) pixels from the object's centre, turned with it.
        period: (n,) pixels from one repeat to the next.
        clouds, grain: (n, h, w) slow and fast noise in [0, 1].
    Returns: (n, h, w) in [0, 1].
    """
    out = torch.zeros_like(x)
    for index in kind.unique().tolist():
        rows = (kind == index).nonzero().squeeze(1)
        u = (period[rows, None, None], x[rows], y[rows])
        name = TEXTURES[index]
        if name != "plain":
            out[rows] = _PATTERNS[name](*u, clouds[rows], grain[rows])
    return out


def _striped(p: Tensor, x: Tensor, y: Tensor, clouds: Tensor, grain: Tensor) -> Tensor:
    return soft_step(_triangle_wave(y / p) - 0.5, 1 / p)


def _dotted(p: Tensor, x: Tensor, y: Tensor, clouds: Tensor, grain: Tensor) -> Tensor:
    dx, dy = x - (x / p).round() * p, y - (y / p).round() * p
    return soft_step(0.3 * p - torch.hypot(dx, dy), 0.5)


def _checkered(p: Tensor, x: Tensor, y: Tensor, clouds: Tensor, grain: Tensor) -> Tensor:
    a, b = _triangle_wave(x / p / 1.4) - 0.5, _triangle_wave(y / p / 1.4) - 0.5
    return soft_step(a * b * 2 * p, 0.35)


def _zigzagged(p: Tensor, x: Tensor, y: Tensor, clouds: Tensor, grain: Tensor) -> Tensor:
    bent = y + 0.9 * p * _triangle_wave(x / p / 1.3)
    return soft_step(_triangle_wave(bent / p) - 0.5, 1.3 / p)


def _gridded(p: Tensor, x: Tensor, y: Tensor, clouds: Tensor, grain: Tensor) -> Tensor:
    dx, dy = (x - (x / p).round() * p).abs(), (y - (y / p).round() * p).abs()
    return soft_step(0.13 * p - torch.minimum(dx, dy), 0.5)


def _marbled(p: Tensor, x: Tensor, y: Tensor, clouds: Tensor, grain: Tensor) -> Tensor:
    return (0.5 + 0.5 * torch.sin(clouds * 34 + x * 0.16)).pow(2)


def _speckled(p: Tensor, x: Tensor, y: Tensor, clouds: Tensor, grain: Tensor) -> Tensor:
    return soft_step(grain - 0.66, 0.08)


def _ringed(p: Tensor, x: Tensor, y: Tensor, clouds: Tensor, grain: Tensor) -> Tensor:
    return soft_step(_triangle_wave(torch.hypot(x, y) / p) - 0.5, 1 / p)


def _spiralled(p: Tensor, x: Tensor, y: Tensor, clouds: Tensor, grain: Tensor) -> Tensor:
    turn = torch.atan2(y, x) / (2 * math.pi)
    return soft_step(_triangle_wave(torch.hypot(x, y) / (2.2 * p) + 2 * turn) - 0.5, 0.8 / p)


_PATTERNS: dict[str, Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]] = {
    "striped": _striped, "dotted": _dotted, "checkered": _checkered, "zigzagged": _zigzagged, "gridded": _gridded,
    "marbled": _marbled, "speckled": _speckled, "ringed": _ringed, "spiralled": _spiralled,
}  # fmt: skip


def background(kind: Tensor, x: Tensor, y: Tensor, clouds: Tensor, grain: Tensor) -> Tensor:
    """What lies behind the object.

    Args:
        kind: (n,) int64, index into `BACKGROUNDS`.
        x, y: (n, h, w) pixels, shifted at random per picture.
        clouds, grain: (n, h, w) slow and fast noise in [0, 1].
    Returns: (n, 3, h, w) in [0, 1].
    """
    weight = torch.empty_like(x)
    for index in kind.unique().tolist():
        rows = (kind == index).nonzero().squeeze(1)
        weight[rows] = _GROUNDS[BACKGROUNDS[index]](x[rows], y[rows], clouds[rows], grain[rows])
    table = torch.tensor([_BACKGROUND_COLOURS[name] for name in BACKGROUNDS])[kind]  # (n, 2, 3)
    first, second = table[:, 0, :, None, None], table[:, 1, :, None, None]
    return first + (second - first) * weight[:, None]


def _brick_joints(x: Tensor, y: Tensor, clouds: Tensor, grain: Tensor) -> Tensor:
    course = (y / 7).floor()
    along = x + 6 * (course % 2)
    joint = torch.minimum(y - course * 7, along - (along / 12).floor() * 12)
    return torch.maximum(soft_step(0.9 - joint, 0.5), grain * 0.25)


_GROUNDS: dict[str, Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]] = {
    "paper": lambda x, y, clouds, grain: clouds,
    "grass": lambda x, y, clouds, grain: 0.35 * clouds + 0.65 * (0.5 + 0.5 * torch.sin(x * 1.7 + grain * 5)),
    "sand": lambda x, y, clouds, grain: 0.25 * clouds + 0.75 * grain,
    "water": lambda x, y, clouds, grain: (0.5 + 0.5 * torch.sin(y * 0.9 + clouds * 9)).square(),
    "snow": lambda x, y, clouds, grain: clouds * 0.8 + 0.2 * grain,
    "bricks": _brick_joints,
    "wood": lambda x, y, clouds, grain: 0.5 + 0.5 * torch.sin(x * 0.75 + clouds * 5 + y * 0.04),
    "sky": lambda x, y, clouds, grain: soft_step(clouds - 0.55, 0.15),
}
