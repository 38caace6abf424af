"""From a scene to pictures and exact foreground masks."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from cliptune.data.tinyworld.land import land
from cliptune.data.tinyworld.scene import COLOURS, SIDE, Scene
from cliptune.data.tinyworld.shapes import SHAPES, distance
from cliptune.data.tinyworld.surfaces import background, smooth_noise, texture

_OUTLINE = 1.1  # pixels, half of it outside the shape


def render(scene: Scene) -> tuple[Tensor, Tensor]:
    """Draw the scene.

    Returns: images (n, 3, 64, 64) float32 in [0, 1], and coverage (n, 64, 64) float32 in [0, 1], the share of each
        pixel that an object covers (1 everywhere in a close-up of a surface, 0 everywhere in land from above).
    """
    n = len(scene)
    pixel = torch.arange(SIDE, dtype=torch.float32) + 0.5
    gx, gy = pixel.expand(n, SIDE, SIDE), pixel[:, None].expand(n, SIDE, SIDE)
    clouds = smooth_noise(scene.clouds, SIDE, SIDE)
    grain = (0.5 + 0.3 * F.interpolate(scene.grain[:, None], scale_factor=2.0, mode="bilinear")[:, 0]).clamp_(0, 1)
    cos, sin = (f(scene.angle).float()[:, None, None] for f in (torch.cos, torch.sin))
    kind = scene.attributes["kind"]
    images = torch.empty(n, 3, SIDE, SIDE)
    coverage = torch.zeros(n, SIDE, SIDE)

    rows = (kind == 2).nonzero().squeeze(1)
    if len(rows):
        turn = scene.shade[rows, 0].double() * torch.pi
        c, s = (f(turn).float()[:, None, None] for f in (torch.cos, torch.sin))
        px, py = gx[rows] - scene.x[rows, :1, None], gy[rows] - scene.y[rows, :1, None]
        images[rows] = land(
            scene.attributes["land"][rows],
            c * px + s * py,
            c * py - s * px,
            clouds[rows],
            grain[rows],
            scene.shade[rows, 1],
        )
    rows = (kind != 2).nonzero().squeeze(1)
    if len(rows):
        local = _Local(scene, rows, gx[rows], gy[rows], cos[rows], sin[rows])
        covered = torch.where((kind[rows] == 1)[:, None, None], 1.0, local.coverage)
        paint = _paint(scene, rows, local, clouds[rows], grain[rows])
        behind = background(
            scene.attributes["background"][rows],
            gx[rows] + scene.shift[rows, :1, None],
            gy[rows] + scene.shift[rows, 1:, None],
            clouds[rows].flip(2),
            grain[rows].flip(2),
        )
        images[rows] = torch.lerp(behind, paint, covered[:, None])
        coverage[rows] = covered
    return images.clamp_(0, 1), coverage


class _Local:
    """Distance to the nearest object and coordinates in its frame, for the pictures `rows`."""

    def __init__(self, scene: Scene, rows: Tensor, gx: Tensor, gy: Tensor, cos: Tensor, sin: Tensor):
        shape, r = scene.attributes["shape"][rows], scene.r[rows, None, None]
        count = scene.attributes["count"][rows] + 1
        self.distance = torch.full_like(gx, float(SIDE))
        self.x, self.y = torch.empty_like(gx), torch.empty_like(gy)
        for k in range(int(count.max())):
            some = (count > k).nonzero().squeeze(1)
            px, py = gx[some] - scene.x[rows[some], k, None, None], gy[some] - scene.y[rows[some], k, None, None]
            x, y = cos[some] * px + sin[some] * py, cos[some] * py - sin[some] * px
            d = distance(shape[some], x / r[some], y / r[some], scene.variant[rows[some]]) * r[some]
            nearer = d < self.distance[some] if k else torch.ones_like(d, dtype=torch.bool)
            for mine, new in ((self.distance, d), (self.x, x), (self.y, y)):
                mine[some] = torch.where(nearer, new, mine[some])
        self.coverage = (0.5 - self.distance + _OUTLINE / 2).clamp_(0, 1)
        self.outline = (0.5 + self.distance + _OUTLINE / 2).clamp_(0, 1)


def _paint(scene: Scene, rows: Tensor, local: _Local, clouds: Tensor, grain: Tensor) -> Tensor:
    """Colour of the objects: base colour, textured with a lighter or darker shade of it, darker along the outline."""
    attributes = scene.attributes
    table = torch.tensor(list(COLOURS.values()))
    shade = scene.shade[rows]
    base = table[attributes["colour"][rows]]
    base = (base * (0.88 + 0.16 * shade[:, :1]) + 0.05 * (shade[:, 1:] - 0.5)).clamp(0, 1)
    dark = base.mean(1, keepdim=True) < 0.42
    contrast = torch.where(dark, base + (1 - base) * 0.62, base * 0.38)
    is_flower = attributes["shape"][rows] == SHAPES.index("flower")
    amount = texture(attributes["texture"][rows], local.x, local.y, scene.period[rows], clouds, grain)
    paint = base[:, :, None, None] + (contrast - base)[:, :, None, None] * amount[:, None]
    # the middle of a flower has its second colour
    radius = torch.hypot(local.x, local.y) / scene.r[rows, None, None]
    middle = ((0.34 - radius) * scene.r[rows, None, None] + 0.5).clamp(0, 1) * is_flower[:, None, None]
    middle = middle * (attributes["kind"][rows] == 0)[:, None, None]
    second = table[attributes["second"][rows]][:, :, None, None]
    paint = torch.lerp(paint, second.expand_as(paint), middle[:, None])
    edge = local.outline * (attributes["kind"][rows] == 0)[:, None, None]
    return torch.lerp(paint, paint * 0.25, edge[:, None])
