"""Pictures: range, masks, independence of the batch."""

import torch

from cliptune.data.tinyworld.draws import Draws
from cliptune.data.tinyworld.land import LANDS
from cliptune.data.tinyworld.render import render
from cliptune.data.tinyworld.scene import ATTRIBUTES, COLOURS, Chooser, compose
from cliptune.data.tinyworld.surfaces import BACKGROUNDS, TEXTURES


def _scene(allowed, keys):
    draws = Draws(keys)
    return compose(Chooser([allowed]).attributes(torch.zeros(len(keys), dtype=torch.int64), draws), draws)


def _keys(n, tag="k"):
    return [f"{tag}{i}" for i in range(n)]


def test_a_picture_does_not_depend_on_its_neighbours():
    keys = _keys(23)
    together, coverage = render(_scene({}, keys))
    for i in (0, 7, 22):
        image, mask = render(_scene({}, keys[i : i + 1]))
        assert torch.equal((together[i] * 255).round(), (image[0] * 255).round())
        assert torch.equal(coverage[i] >= 0.5, mask[0] >= 0.5)


def test_images_lie_in_zero_one_and_differ():
    images, coverage = render(_scene({}, _keys(24)))
    assert images.shape == (24, 3, 64, 64)
    assert images.dtype == torch.float32
    assert float(images.min()) >= 0
    assert float(images.max()) <= 1
    assert coverage.shape == (24, 64, 64)
    assert len({image.numpy().tobytes() for image in images}) == 24


def test_mask_is_where_the_object_is():
    allowed = {
        "kind": ["object"], "count": ["one"], "size": ["large"], "shape": ["circle"], "texture": ["plain"],
        "colour": ["red"], "background": ["snow"],
    }  # fmt: skip
    scene = _scene(allowed, _keys(6))
    images, coverage = render(scene)
    area = coverage.sum((1, 2))
    # a disc of radius 0.95 r, with half the outline around it
    expected = torch.pi * (0.95 * scene.r + 0.55) ** 2
    assert torch.allclose(area, expected, rtol=0.02)
    red = (images[:, 0] - images[:, 1]) > 0.35
    inside = coverage > 0.99
    assert (red & inside).sum() > 0.85 * inside.sum()
    assert not bool((red & (coverage == 0)).any())


def test_close_ups_are_all_foreground_and_land_has_none():
    _, surface = render(_scene({"kind": ["surface"]}, _keys(3)))
    _, land = render(_scene({"kind": ["land"]}, _keys(3)))
    assert bool((surface == 1).all())
    assert bool((land == 0).all())


def test_several_objects_are_as_many_as_stated():
    for count, name in ((1, "one"), (3, "three"), (6, "six")):
        allowed = {"kind": ["object"], "count": [name], "shape": ["circle"], "size": ["small"]}
        _, coverage = render(_scene(allowed, _keys(3, name)))
        for mask in coverage >= 0.5:
            assert _pieces(mask) == count


def _pieces(mask):
    """Connected pieces of a mask, by spreading labels."""
    label = torch.arange(mask.numel()).view(mask.shape).float() + 1
    label = torch.where(mask, label, 0.0)
    for _ in range(80):
        spread = torch.nn.functional.max_pool2d(label[None], 3, 1, 1)[0]
        label = torch.where(mask, spread, 0.0)
    return len(label.unique()) - 1


def test_every_value_of_every_attribute_can_be_drawn():
    for name, values, kind in (
        ("colour", COLOURS, "object"),
        ("texture", TEXTURES, "surface"),
        ("background", BACKGROUNDS, "object"),
        ("land", LANDS, "land"),
    ):
        pictures = []
        for value in values:
            image, _ = render(_scene({"kind": [kind], "count": ["one"], name: [value]}, ["same"]))
            pictures.append(image.numpy().tobytes())
        assert len(set(pictures)) == len(ATTRIBUTES[name])
