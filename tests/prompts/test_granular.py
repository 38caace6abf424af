"""Frames around the whole image and around crops: what each view shows."""

from __future__ import annotations

from itertools import product

import pytest
import torch
import torch.nn.functional as F

from cliptune.batch import Batch
from cliptune.prompts.granular import GranularFrame
from tests.golden.reference import CLIP_MEAN, CLIP_STD

MEAN, STD = (torch.tensor(v)[:, None, None] for v in (CLIP_MEAN, CLIP_STD))
R, INNER, STEP, L, E, N = 32, 24, 5, 2, 3, 4


def frames(clip, **more) -> GranularFrame:
    prompt = GranularFrame(clip, **{"inner": INNER, "levels": L, "scales": E, "crops": N, "step": STEP, **more})
    torch.nn.init.normal_(prompt.program.value)
    return prompt


def views(prompt, images: torch.Tensor) -> torch.Tensor:
    return prompt().pixels(images, Batch.of(images))


def framed(picture: torch.Tensor, pattern: torch.Tensor) -> torch.Tensor:
    """(3, s, s) inside (3, R, R), row by row."""
    before = (R - INNER + 1) // 2
    out = pattern.sigmoid().clone()
    for row in range(INNER):
        out[:, before + row, before : before + INNER] = picture[:, row]
    return (out - MEAN) / STD


def grown(picture: torch.Tensor, top: int, left: int, side: int) -> torch.Tensor:
    cut = picture[None, :, top : top + side, left : left + side]
    return F.interpolate(cut, size=(INNER, INNER), mode="bilinear")[0]


def test_views_are_the_formulas_written_out(tiny_clip):
    prompt, images = frames(tiny_clip).eval(), torch.rand(2, 3, INNER, INNER)
    delta = prompt.spread(prompt.program())  # (1 + L + E, 3, R, R)
    places = [(0.5, 0.5), (0.75, 0.25), (0.25, 0.75), (0.375, 0.375)]
    with torch.no_grad():
        found = views(prompt, images)
    assert found.shape == (2, 1 + L + E * N, 3, R, R)
    for b, image in enumerate(images):
        shared = sum(delta[: L + 1]) / (L + 1)
        expected = [framed(image, shared), framed(image, delta[1]), framed(image, delta[2])]
        for e in range(1, E + 1):
            side = INNER - STEP * e
            for down, right in places:
                top, left = round(down * (INNER - side)), round(right * (INNER - side))
                expected.append(framed(grown(image, top, left, side), delta[L + e]))
        torch.testing.assert_close(found[b], torch.stack(expected))


def test_training_draws_a_place_for_every_image_crop_and_step(tiny_clip):
    prompt = frames(tiny_clip, scales=1, crops=6)
    images = torch.rand(3, 3, INNER, INNER)
    side, before = INNER - STEP, (R - INNER + 1) // 2
    torch.manual_seed(1)
    with torch.no_grad():
        first, second = views(prompt, images), views(prompt, images)
        torch.manual_seed(1)
        assert torch.equal(views(prompt, images), first)
    assert not torch.equal(first, second)
    chosen = []
    for b, image in enumerate(images):
        every = {at: grown(image, *at, side) for at in product(range(STEP + 1), repeat=2)}
        for view in first[b, 1 + L :]:
            inside = (view * STD + MEAN)[:, before : before + INNER, before : before + INNER]
            hits = [place for place, crop in every.items() if torch.allclose(crop, inside, atol=1e-5)]
            assert len(hits) == 1
            chosen += hits
    assert len(set(chosen)) > 6


def test_places_of_an_image_do_not_depend_on_the_others_in_the_batch(tiny_clip):
    prompt, batch = frames(tiny_clip), Batch.of(torch.rand(4, 3, INNER, INNER))
    pieces = []
    with torch.no_grad():
        for cut in (slice(0, 4), slice(0, 1), slice(1, 4)):
            torch.manual_seed(3)  # as every piece of a batch begins
            pieces.append(prompt().pixels(batch[cut].images, batch[cut]))
    assert torch.equal(torch.cat(pieces[1:]), pieces[0])


def test_crops_reach_every_edge(tiny_clip):
    prompt = frames(tiny_clip, scales=1, crops=400, levels=0)
    image = torch.arange(INNER, dtype=torch.float32)[:, None].expand(1, 3, INNER, INNER) / INNER
    with torch.no_grad():
        found = views(prompt, image)[0, 1:, 0] * STD[0] + MEAN[0]
    tops = (found[:, R // 2 - INNER // 2, R // 2] * INNER).round()
    assert sorted(set(tops.tolist())) == list(range(STEP + 1))


def test_a_bare_view_is_the_image_without_a_frame(tiny_clip, images):
    prompt = frames(tiny_clip)
    prompt.bare = True
    torch.testing.assert_close(views(prompt, images)[:, 0], (images - MEAN) / STD)


def test_every_pattern_learns_from_its_own_views(tiny_clip):
    prompt, images = frames(tiny_clip), torch.rand(2, 3, INNER, INNER)
    for view, moved in {0: [0, 1, 2], 1: [1], 2: [2], 3: [3], 3 + N: [4], 3 + 2 * N: [5]}.items():
        (gradient,) = torch.autograd.grad(views(prompt, images)[:, view].sum(), prompt.program.value)
        per_pattern = gradient.view(1 + L + E, -1).abs().sum(dim=1)
        assert per_pattern.nonzero()[:, 0].tolist() == moved


def test_the_step_is_a_sixth_of_the_image_where_it_is_left_out(tiny_clip):
    prompt = frames(tiny_clip, step=None)
    assert prompt.step == 4
    assert "step was left out and is 4 of 24 pixels" in prompt.notes[-1]
    assert GranularFrame(tiny_clip, INNER, levels=0, scales=0).patterns == 1
    with pytest.raises(ValueError, match="leave one of 24 after 3 scales, got 8"):
        frames(tiny_clip, step=8)
