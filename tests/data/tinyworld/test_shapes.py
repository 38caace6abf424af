"""Distances against plain geometry."""

import math

import pytest
import torch

from cliptune.data.tinyworld.shapes import DISTANCES, SHAPES, box, distance, ellipse, polygon


def _points(n=200, reach=1.6):
    points = torch.rand(2, n, 1, 1, generator=torch.Generator().manual_seed(0)) * 2 * reach - reach
    return points[0], points[1]


def _segment(px, py, ax, ay, bx, by):
    t = max(0.0, min(1.0, ((px - ax) * (bx - ax) + (py - ay) * (by - ay)) / ((bx - ax) ** 2 + (by - ay) ** 2)))
    return math.hypot(px - ax - t * (bx - ax), py - ay - t * (by - ay))


def test_polygon_matches_its_edges_and_its_inside():
    corners = [(-0.9, -0.5), (0.8, -0.9), (0.2, 0.1), (0.7, 0.9), (-0.6, 0.6)]
    x, y = _points()
    got = polygon(x, y, corners).flatten()
    for px, py, value in zip(x.flatten().tolist(), y.flatten().tolist(), got.tolist(), strict=True):
        turns = 0.0  # winding number, in turns
        nearest = math.inf
        for (ax, ay), (bx, by) in zip(corners, corners[1:] + corners[:1], strict=True):
            nearest = min(nearest, _segment(px, py, ax, ay, bx, by))
            step = math.atan2(by - py, bx - px) - math.atan2(ay - py, ax - px)
            turns += (step + math.pi) % (2 * math.pi) - math.pi
        inside = abs(turns) > math.pi
        assert value == pytest.approx(-nearest if inside else nearest, abs=1e-5)


def test_box_is_the_polygon_of_its_corners():
    x, y = _points()
    corners = [(-0.7, -0.4), (0.7, -0.4), (0.7, 0.4), (-0.7, 0.4)]
    assert torch.allclose(box(x, y, 0.7, 0.4), polygon(x, y, corners), atol=1e-6)


def test_ellipse_is_zero_on_its_border_and_has_unit_slope_there():
    angle = torch.linspace(0, 6.2, 50)[:, None, None]
    x, y = 0.8 * torch.cos(angle), 0.5 * torch.sin(angle)
    assert ellipse(x, y, 0.8, 0.5).abs().max() < 1e-6
    nx, ny = x / 0.64, y / 0.25
    norm = torch.hypot(nx, ny)
    outward = ellipse(x + 1e-3 * nx / norm, y + 1e-3 * ny / norm, 0.8, 0.5)
    assert torch.allclose(outward, torch.full_like(outward, 1e-3), rtol=0.02)


@pytest.mark.parametrize("name", SHAPES)
def test_every_shape_fits_its_radius_and_is_not_empty(name):
    axis = torch.linspace(-1.8, 1.8, 181)
    x, y = axis.expand(1, 181, 181), axis[:, None].expand(1, 181, 181)
    inside = DISTANCES[name](x, y, torch.full((1, 1, 1), 0.5)) < 0
    area = inside.float().mean() * 3.6**2
    assert 0.6 < area < 3.5
    assert torch.hypot(x, y)[inside].max() < 1.45


def test_each_picture_gets_its_own_shape():
    x, y = _points(len(SHAPES))
    variant = torch.rand(len(SHAPES), generator=torch.Generator().manual_seed(1))
    together = distance(torch.arange(len(SHAPES)), x, y, variant)
    for i, name in enumerate(SHAPES):
        alone = DISTANCES[name](x[i : i + 1], y[i : i + 1], variant[i : i + 1, None, None])
        assert torch.equal(together[i : i + 1], alone)


@pytest.mark.parametrize("petals", [3, 4, 5, 8])
def test_flower_has_its_number_of_petals(petals):
    angle = torch.linspace(0, 2 * math.pi, 721)[:-1].view(1, 1, -1)
    v = torch.full((1, 1, 1), (petals - 3 + 0.5) / 6)
    on_circle = DISTANCES["flower"](0.9 * torch.cos(angle), 0.9 * torch.sin(angle), v)[0, 0] < 0
    assert int((on_circle & ~on_circle.roll(1)).sum()) == petals
