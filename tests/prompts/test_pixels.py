"""Patterns on the pixels: where they are added, which pixels learn, what they cost."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from cliptune import methods
from cliptune.adapter import Adapter
from cliptune.batch import Batch
from cliptune.clip import CLIP
from cliptune.clip.weights.openai import OPENAI_CONFIGS
from cliptune.heads import MeanHead
from cliptune.prompts import DeepTokens, PixelFrame, PixelOverlay, Together
from cliptune.prompts.pixels import STRIPS, around, usual_inner
from cliptune.texts import ContextPhrasing, TemplatePhrasing
from tests.conftest import CLASS_NAMES
from tests.golden.reference import CLIP_MEAN, CLIP_STD

# Classes without descriptions: templates stand in for them, and a warning says so.
pytestmark = pytest.mark.filterwarnings("ignore:.*have no descriptions")
MEAN, STD = (torch.tensor(v)[:, None, None] for v in (CLIP_MEAN, CLIP_STD))
R = 32


@pytest.fixture(scope="module")
def large() -> CLIP:
    """ViT-B/16's sizes, without weights."""
    return CLIP.of_sizes(OPENAI_CONFIGS["ViT-B/16"])


def views(prompt, images: torch.Tensor) -> torch.Tensor:
    return prompt().pixels(images, Batch.of(images))


def count(prompt) -> int:
    return sum(p.numel() for p in prompt.parameters())


def test_values_that_learn_at_published_sizes(large):
    assert count(PixelOverlay(large)) == 69_840
    assert PixelOverlay(large).border == 30
    assert count(PixelFrame(large)) == 39_936
    assert PixelFrame(large).inner == 192
    assert count(PixelFrame(large, patterns=3)) == 119_808
    assert count(PixelOverlay(large, 112)) == 3 * 224**2
    strips = PixelFrame(large, strips=True)
    assert [3 * int((strips.strip == i).sum()) for i in range(len(STRIPS))] == [10_752, 10_752, 9_216, 9_216]
    assert methods.count_learnables("rvp", OPENAI_CONFIGS["ViT-B/16"], classes=100, m=20) == 51_936


def test_the_frame_is_the_outer_ring_of_patches_at_published_sizes(large):
    live = PixelFrame(large).spread(torch.ones(3, 13_312))[0, 0].view(14, 16, 14, 16).mean(dim=(1, 3))
    assert torch.equal(live, around(14, 1, 12).float())


def test_a_frame_keeps_to_the_grid_of_patches_where_it_is_fine_enough(large):
    usual = lambda name: usual_inner(CLIP.of_sizes(OPENAI_CONFIGS[name]))
    assert [usual(name) for name in ("ViT-B/16", "ViT-B/32", "RN50", "ViT-L/14")] == [192, 192, 192, 196]
    small = replace(OPENAI_CONFIGS["ViT-B/16"], resolution=64, patch=8)
    assert usual_inner(CLIP.of_sizes(small)) == 48


@pytest.mark.parametrize("inner", [24, 25, 1, 31])
def test_the_inner_image_lies_in_the_middle(tiny_clip, images, inner):
    """Where the margins differ, the greater ones are above and to the left."""
    prompt = PixelFrame(tiny_clip, inner)
    small = torch.rand(2, 3, inner, inner)
    shown = views(prompt, small)[:, 0] * STD + MEAN
    top = (R - inner + 1) // 2
    torch.testing.assert_close(shown[..., top : top + inner, top : top + inner], small)
    shown[..., top : top + inner, top : top + inner] = 0.5
    torch.testing.assert_close(shown, torch.full_like(shown, 0.5))
    assert count(prompt) == 3 * (R**2 - inner**2)


def test_a_frame_starts_grey_and_stays_in_range(tiny_clip):
    prompt = PixelFrame(tiny_clip, 24)
    start = views(prompt, torch.zeros(1, 3, 24, 24))[0, 0]
    torch.testing.assert_close(start[:, 0, 0], torch.tensor([0.0690, 0.1614, 0.3328]), rtol=0, atol=1e-4)
    torch.nn.init.normal_(prompt.program.value, std=50)
    shown = views(prompt, torch.rand(1, 3, 24, 24)) * STD + MEAN
    assert shown.min() >= -1e-6
    assert shown.max() <= 1 + 1e-6


def test_an_overlay_starts_as_the_bare_image_bit_for_bit(tiny_clip, images):
    recipe = methods.build("vp", tiny_clip, CLASS_NAMES, sentence="")
    plain = methods.build("zeroshot", tiny_clip, CLASS_NAMES)
    assert torch.equal(recipe.adapter.logits(images), plain.adapter.logits(images))


def test_an_overlay_is_added_after_normalisation_and_never_clamped(tiny_clip, images):
    prompt = PixelOverlay(tiny_clip, 4)
    torch.nn.init.normal_(prompt.program.value, std=50)
    before = images.clone()
    shown = views(prompt, images)[:, 0]
    expected = (images - MEAN) / STD
    inside = slice(4, R - 4)
    assert torch.equal(shown[..., inside, inside], expected[..., inside, inside])
    added = prompt.spread(prompt.program())[0]
    torch.testing.assert_close(shown, expected + added)
    assert added[:, inside, inside].abs().max() == 0
    assert shown.abs().max() > 20
    assert torch.equal(images, before)  # the batch may be cached


def test_a_constant_on_the_normalised_image_is_the_same_frame(tiny_clip):
    prompt = PixelFrame(tiny_clip, 25, patterns=2)
    torch.nn.init.normal_(prompt.program.value)
    small = torch.rand(3, 3, 25, 25)
    exported = F.pad((small - MEAN) / STD, (4, 3, 4, 3))[:, None] + prompt.constant()
    torch.testing.assert_close(views(prompt, small), exported, rtol=0, atol=1e-6)


def test_images_of_another_size_are_fitted(tiny_clip, images):
    prompt = PixelFrame(tiny_clip, 24)
    small = F.interpolate(images, (24, 24), mode="bicubic", antialias=True).clamp(0, 1)
    torch.testing.assert_close(views(prompt, images), views(prompt, small))
    assert methods.build("ar", tiny_clip, CLASS_NAMES, inner=20).adapter.resolution == 20


def test_strips_show_one_pattern_and_divide_its_gradient(tiny_clip):
    """What each strip gets: its share of the gradient of the loss in which all other causes' scores are constant."""
    strips = methods.build("dvplite", tiny_clip, CLASS_NAMES, inner=24, m=3)
    plain = methods.build("dvplite", tiny_clip, CLASS_NAMES, inner=24, m=3, gradient="joint")
    torch.nn.init.normal_(strips.adapter.prompt.program.value)
    plain.adapter.load_learnables(strips.adapter.learnables())
    batch = Batch.of(torch.rand(3, 3, 24, 24), torch.tensor([0, 3, 1]))
    out = strips.adapter(batch)
    assert out.similarity.shape[1] == 4
    torch.testing.assert_close(out.similarity, out.similarity[:, :1].expand_as(out.similarity), rtol=0, atol=1e-4)
    strips.stages[1].objective(out, batch, 0.0)[0].backward()
    with torch.no_grad():
        assert strips.adapter(batch).similarity.shape[1] == 1
        torch.testing.assert_close(strips.adapter(batch).logits, out.logits, rtol=0, atol=1e-4)

    joint, prompt = plain.adapter, plain.adapter.prompt
    for group in range(4):
        together = joint(batch)
        scores = together.similarity[:, 0]
        own = together.texts.view_of == group
        mixed = torch.where(own, scores, scores.detach())
        logits = joint.head(mixed[:, None], together.texts, together.image_embedding)
        (gradient,) = torch.autograd.grad(F.cross_entropy(logits, batch.labels), prompt.program.value)
        mine = prompt.strip == group
        actual = strips.adapter.prompt.program.value.grad[:, mine]
        torch.testing.assert_close(actual, gradient[:, mine], rtol=1e-3, atol=1e-6)


def test_patterns_compose_with_text_tokens(tiny_clip, images):
    """Both are seen, both learn, and the image is framed once."""
    phrasing = ContextPhrasing(2)
    prompt = Together(words=DeepTokens("text", [phrasing.start(tiny_clip)]), frame=PixelFrame(tiny_clip, 24))
    from cliptune.texts import ClassSet

    adapter = Adapter(tiny_clip, ClassSet(CLASS_NAMES), phrasing, prompt, MeanHead())
    assert adapter.resolution == 24
    assert not adapter.image_is_frozen
    batch = Batch.of(images, torch.tensor([0, 3, 1]))
    F.cross_entropy(adapter(batch).logits, batch.labels).backward()
    assert all(p.grad.abs().max() > 0 for p in prompt.parameters())
    # the frozen reference sees the picture without its frame, at the tower's size
    assert adapter.reference(batch).logits.shape == (3, len(CLASS_NAMES))
    with pytest.raises(ValueError, match="both set the `pixels` port"):
        Together(a=PixelFrame(tiny_clip, 24), b=PixelOverlay(tiny_clip))()


@pytest.mark.parametrize("chunk", [1, 2, 3, 4])
def test_chunks_change_neither_answers_nor_gradients(tiny_clip, images, chunk):
    batch = Batch.of(images, torch.tensor([0, 3, 1]))
    found = []
    for size in (None, chunk):
        recipe = methods.build("dvp_cse", tiny_clip, CLASS_NAMES, inner=24, m=2, chunk=size)
        out = recipe.adapter(batch)
        recipe.stages[1].objective(out, batch, 0.0)[0].backward()
        found.append((out.logits.detach(), recipe.adapter.prompt.program.value.grad, recipe.adapter.logits(images)))
    for whole, pieces in zip(*found, strict=True):
        torch.testing.assert_close(pieces, whole, rtol=1e-4, atol=1e-5)


def test_chunks_bound_what_the_tower_sees_and_recompute_in_training(tiny_clip, images):
    recipe = methods.build("dvp_cse", tiny_clip, CLASS_NAMES, inner=24, m=2, chunk=3)
    passes: list[int] = []
    hook = tiny_clip.image.register_forward_pre_hook(lambda _, args: passes.append(args[0].shape[0] * args[0].shape[1]))
    try:
        recipe.adapter.logits(images)
        assert passes == [3, 3, 3]
        passes.clear()
        batch = Batch.of(images, torch.tensor([0, 3, 1]))
        recipe.adapter(batch).logits.sum().backward()
        assert passes == [3] * 6
    finally:
        hook.remove()
    with pytest.raises(ValueError, match="chunk must be at least 1"):
        Adapter(tiny_clip, recipe.adapter.classes, TemplatePhrasing(), recipe.adapter.prompt, MeanHead(), chunk=0)


def test_low_rank_patterns_share_their_parts(tiny_clip):
    from cliptune.params import FullRank

    shapes = []

    def param(start: torch.Tensor) -> FullRank:
        shapes.append(tuple(start.shape))
        return FullRank(start)

    PixelFrame(tiny_clip, 24, patterns=3, param=param)
    assert shapes == [(9, R**2 - 24**2)]


def test_sizes_that_cannot_be_are_explained(tiny_clip):
    for inner in (32, 40, 0):
        with pytest.raises(ValueError, match=f"side of 1 to 31 pixels, smaller than the 32 .*got {inner}"):
            methods.build("ar", tiny_clip, CLASS_NAMES, inner=inner)
    for border in (17, 0):
        with pytest.raises(ValueError, match=f"between 1 and 16 pixels.*got {border}"):
            methods.build("vp", tiny_clip, CLASS_NAMES, border=border)
    with pytest.raises(ValueError, match="at least one pattern"):
        PixelFrame(tiny_clip, 24, patterns=0)
    with pytest.raises(ValueError, match="divide one pattern"):
        PixelFrame(tiny_clip, 24, patterns=2, strips=True)
    with pytest.raises(ValueError, match="start must be"):
        PixelFrame(tiny_clip, 24, start="ones")
    assert PixelFrame(tiny_clip, 24, start="normal").program.value.std() > 0.9
