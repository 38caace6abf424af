"""ACAVP's pattern against its release, and what it does to pixels."""

from __future__ import annotations

import pytest
import torch

from cliptune import methods
from cliptune.batch import Batch
from cliptune.prompts.warped import WarpedPattern
from tests.conftest import CLASS_NAMES
from tests.golden import weights
from tests.golden.reference import golden

RELEASED = golden("acavp")[1]


@pytest.fixture(params=["start", "moved"])
def released(request, tiny_clip):
    """The pattern at its start, or with the values that its release was given: scales, rotation, shears, shifts."""
    pattern = WarpedPattern(tiny_clip)
    if request.param == "moved":
        pattern.affine.data.copy_(torch.tensor([1.25, 0.5, 0.75, 0.5, -0.75, 0.5, -0.25]))
        pattern.colour.value.data.copy_(weights.draw((1, 3, 32, 32), 1.0, 301).view(3, -1))
        pattern.program.value.data.copy_(weights.draw((3, 32, 32), 1.0, 302).view(3, -1))
    return request.param, pattern


def test_pixels_and_gradients_are_the_releases(released):
    """The stored values are of the release's own ACAVP (models/prompters.py) with kornia 0.9.0, on two random images of
    32 pixels; the gradients are those of a fixed weighting of all pixels."""
    case, pattern = released
    views = pattern().pixels(RELEASED["images"], None)
    assert views.shape == (2, 1, 3, 32, 32)
    torch.testing.assert_close(views[:, 0], RELEASED[case], rtol=1e-5, atol=1e-4)
    _, outside = pattern._reading(pattern.matrix())
    assert torch.equal(outside.long(), RELEASED[f"{case}/mask"])
    weighted = (views[:, 0] * torch.linspace(-1, 1, views.numel()).view_as(views[:, 0])).sum()
    affine, colour, program = torch.autograd.grad(
        weighted, [pattern.affine, pattern.colour.value, pattern.program.value]
    )
    parts = [RELEASED[f"{case}/grad/{name}"].flatten() for name in ("s", "theta", "sh", "t")]
    torch.testing.assert_close(affine, torch.cat(parts), rtol=1e-4, atol=1e-2)
    torch.testing.assert_close(colour.view(3, 32, 32), RELEASED[f"{case}/grad/mult"][0], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(program.view(3, 32, 32), RELEASED[f"{case}/grad/add"])


def test_an_image_does_not_change_the_answer_to_another(tiny_clip):
    pattern = WarpedPattern(tiny_clip)
    torch.nn.init.normal_(pattern.program.value)
    black, noise = torch.zeros(1, 3, 32, 32), torch.rand(1, 3, 32, 32)
    alone = pattern().pixels(black, None)
    beside = pattern().pixels(torch.cat([black, noise]), None)[:1]
    assert torch.equal(alone, beside)


def test_the_start_is_the_smaller_image_on_black(tiny_clip):
    pattern = WarpedPattern(tiny_clip, scale=0.5)
    white = torch.ones(1, 3, 32, 32)
    shown = pattern().pixels(white, None)[0, 0] * torch.tensor(tiny_clip.std)[:, None, None]
    shown = shown + torch.tensor(tiny_clip.mean)[:, None, None]
    expected = torch.zeros(3, 32, 32)
    expected[:, :16, :16] = 1
    inside = shown[:, 1:15, 1:15]
    torch.testing.assert_close(inside, torch.ones_like(inside))
    torch.testing.assert_close(shown[:, 17:], expected[:, 17:], rtol=0, atol=1e-6)


def test_bias_beside_it_leaves_its_rates(tiny_clip):
    recipe = methods.build("acavp+bias", tiny_clip, CLASS_NAMES, lr=10.0, colour_lr=2.0, affine_lr=1e-3)
    optimiser = recipe.stages[0].optimiser
    assert optimiser.factor("prompt.parts.host.colour.value") == pytest.approx(0.2)
    assert optimiser.factor("prompt.parts.host.affine") == pytest.approx(1e-4)
    assert optimiser.factor("prompt.parts.host.program.value") == 1.0


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"scale": 1.0}, "scale must be between 0 and 1"),
        ({"colour_range": 1.0}, "colour_range must be above 1"),
        ({"angle_range": 2.0}, "angle_range must be between 0"),
        ({"affine_lr": 0.0}, "affine_lr must be above 0"),
        ({"augment": "random"}, "augment must be one of crop, trivial"),
    ],
)
def test_what_cannot_be_is_a_sentence(options, why, tiny_clip):
    with pytest.raises(ValueError, match=why):
        methods.build("acavp", tiny_clip, CLASS_NAMES, **options)


@pytest.mark.filterwarnings("ignore:.*have no descriptions")
@pytest.mark.parametrize("method", ["vp", "ar", "attrvr", "dvp_cls", "dvp_cse", "dvplite", "rvp"])
def test_every_pattern_may_train_with_trivial_augment(method, tiny_clip):
    stages = methods.build(method, tiny_clip, CLASS_NAMES, augment="trivial").stages
    assert all(stage.trivial for stage in stages)
    assert not any(stage.trivial for stage in methods.build(method, tiny_clip, CLASS_NAMES).stages)
    assert methods.build("acavp", tiny_clip, CLASS_NAMES).stages[0].trivial


def test_a_few_steps_lower_the_loss(tiny_clip, images):
    recipe = methods.build("acavp", tiny_clip, CLASS_NAMES)
    batch = Batch.of(images, torch.tensor([0, 3, 1]))
    loss = lambda: recipe.stages[0].objective(recipe.adapter(batch), batch, 0.0)[0]
    before = loss()
    before.backward()
    with torch.no_grad():
        for parameter in recipe.adapter.trainable().values():
            parameter.sub_(1e-3 * parameter.grad / parameter.grad.norm())
    assert loss() < before
