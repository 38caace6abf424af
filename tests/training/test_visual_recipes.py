"""What the recipes of visual reprogramming ask of training: smaller images, every image, augmented observation."""

from __future__ import annotations

import pytest
import torch
from PIL import Image

from cliptune.data.transforms import test_transform as evaluation_transform
from cliptune.data.transforms import train_transform
from cliptune.recipe import OptimiserConfig
from cliptune.registry import build
from cliptune.training.distributed import processes
from cliptune.training.feed import Feed
from cliptune.training.schedules import learning_rate
from tests.golden.reference import golden
from tests.training.support import NAMES, squares

pytestmark = pytest.mark.filterwarnings("ignore:.*have no descriptions")


def test_transforms_equal_the_released_ones():
    tensors = golden("visual")[1]
    picture = Image.fromarray(tensors["tf/image_hwc_u8"].numpy())
    torch.testing.assert_close(evaluation_transform(48)(picture), tensors["tf/attrvr_test"])
    torch.manual_seed(0)
    torch.testing.assert_close(train_transform(48, resize_first=True)(picture), tensors["tf/attrvr_train_seed0"])


def test_images_come_at_the_inner_size_and_none_is_dropped(tiny_clip):
    recipe, data = build("dvp_cse", tiny_clip, NAMES, inner=20, batch_size=4, epochs=3), squares()
    with processes("cpu") as group:
        feed = Feed(recipe.adapter, data, group, seed=1)
        observe, train = recipe.stages
        feed.begin(train)
        seen = [batch for batch, _ in feed.training(train, 1, 0, 0)]
        assert [len(batch) for batch in seen] == [4, 4, 4, 4, 2]
        assert feed.steps(train) == 5
        assert [feed.batch_size(train, batch, step) for step, batch in enumerate(seen)] == [4, 4, 4, 4, 2]
        assert sorted(torch.cat([batch.index for batch in seen]).tolist()) == list(range(18))
        assert {tuple(batch.images.shape[1:]) for batch in seen} == {(3, 20, 20)}
        feed.begin(observe)
        (augmented, _), *_ = feed.in_order("train", 0)
        (plain, _), *_ = feed.in_order("train")
        assert torch.equal(augmented.index, plain.index)
        assert not torch.equal(augmented.images, plain.images)


def test_a_horizon_beyond_the_stage_stretches_the_cosine():
    config = OptimiserConfig(lr=40, per="step", warmup_epochs=0, horizon=3)
    rates = [learning_rate(config, epoch, 2, step, 2) for epoch in (0, 1) for step in (0, 1)]
    assert rates == pytest.approx([40, 37.32050807568878, 30.0, 20.0])
