import copy

import pytest
import torch

from cliptune.features import tower
from cliptune.features.tower import encoded, group_of, identity
from cliptune.preprocessing import Preprocessing
from cliptune.training.precision import towers_in
from tests.conftest import random_clip


def pictures(n: int) -> torch.Tensor:
    return torch.rand(n, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def all_of(clip, images, group=None):
    return torch.cat(list(encoded(clip, [images], group or group_of(clip))))


def test_a_picture_has_one_embedding_whatever_it_is_among(tiny_clip):
    images = pictures(21)
    together = all_of(tiny_clip, images)
    order = torch.randperm(21)
    assert torch.equal(all_of(tiny_clip, images[order]), together[order])
    assert torch.equal(torch.cat([all_of(tiny_clip, one[None]) for one in images]), together)
    plain = tiny_clip.encode_image(tiny_clip.normalise(images)[:, None])[:, 0]
    torch.testing.assert_close(together, plain, atol=1e-5, rtol=1e-5)


def test_threads_change_nothing_and_are_put_back(tiny_clip):
    images, before = pictures(40), torch.get_num_threads()
    one = all_of(tiny_clip, images)
    try:
        torch.set_num_threads(3)
        assert torch.equal(all_of(tiny_clip, images), one)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


def test_a_tower_for_which_the_place_matters_gets_one_picture_at_a_time(tiny_clip):
    class Placed(type(tiny_clip)):
        def encode_image(self, views, *more):
            return super().encode_image(views, *more) + 1e-6 * torch.arange(len(views))[:, None, None]

    clip = copy.deepcopy(tiny_clip)
    clip.__class__ = Placed
    assert group_of(clip) == 1
    assert group_of(tiny_clip) == tower.GROUPS["cpu"]


def test_the_fingerprint_is_that_of_equal_towers_alone(tiny_clip):
    own = identity(tiny_clip)[0]
    assert identity(random_clip())[0] == own
    assert identity(random_clip(seed=1))[0] != own
    with towers_in(tiny_clip, "bf16"):
        assert identity(tiny_clip)[0] != own
    assert identity(tiny_clip)[0] == own


@pytest.mark.parametrize(
    "change", ["tensor", "past the counter", "activation", "heads", "statistics", "code", "products"]
)
def test_whatever_changes_an_embedding_changes_the_fingerprint(monkeypatch, change):
    clip = random_clip()
    own = identity(clip)[0]
    block = clip.image.transformer.resblocks[0]
    if change == "tensor":
        with torch.no_grad():
            clip.image.conv1.weight.view(-1)[3] += 1
    elif change == "past the counter":
        next(clip.image.parameters()).data.view(-1)[3] += 1
    elif change == "activation":
        block.mlp.gelu = torch.nn.GELU()
    elif change == "heads":
        block.attn.heads = 1
    elif change == "statistics":
        clip.preprocessing = Preprocessing(mean=(0.5, 0.5, 0.5))
    elif change == "code":
        monkeypatch.setattr(tower, "_code", lambda: "other")
    else:
        monkeypatch.setattr(torch, "get_float32_matmul_precision", lambda: "medium")
    assert identity(clip)[0] != own


def test_the_text_tower_does_not_matter():
    clip = random_clip()
    own = identity(clip)[0]
    with torch.no_grad():
        clip.text.token_embedding.weight += 1
    assert identity(clip)[0] == own
