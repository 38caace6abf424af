from dataclasses import replace

import pytest
import torch

from cliptune import build
from cliptune.data import transforms
from cliptune.data.loader import gather
from cliptune.data.transforms import mixed, train_transform
from cliptune.objectives import WeightedLoss
from cliptune.preprocessing import Preprocessing
from cliptune.training import evaluate, fit
from cliptune.training.distributed import Processes
from cliptune.training.feed import Feed
from tests.conftest import random_clip
from tests.training.support import recipe, squares


class Count:
    """How often a function ran, and on how many rows."""

    def __init__(self, monkeypatch, owner, name):
        self.calls, self.rows = 0, 0
        function = getattr(owner, name)

        def counted(first, *rest):
            self.calls += 1
            self.rows += len(first) if hasattr(first, "__len__") else 0
            return function(first, *rest)

        monkeypatch.setattr(owner, name, counted)


def feed(adapter, data, **options):
    return Feed(adapter, data, Processes(torch.device("cpu")), seed=1, **options)


def test_frozen_images_without_augmentation_are_encoded_once(tiny_clip, computed):
    data = squares()
    options = {"epochs": 4}
    plain = recipe(tiny_clip, **options)
    plain.stages[0].augment = False
    live = fit(plain, data, progress="silent", cache_features=False).adapter
    cached = recipe(tiny_clip, **options)
    cached.stages[0].augment = False
    fit(cached, data, progress="silent", select="val")
    assert sum(computed) == len(data.train) + len(data.val)
    for name, value in fit(cached, data, progress="silent").adapter.learnables().items():
        assert value.shape == live.learnables()[name].shape


def test_embeddings_change_nothing_but_rounding(tiny_clip):
    def trained(**options):
        r = recipe(tiny_clip)
        r.stages[0].augment = False
        return fit(r, squares(), progress="silent", **options).adapter.learnables()

    live = trained(cache_features=False)
    for name, value in trained().items():
        assert torch.allclose(value, live[name], atol=1e-5)


def test_random_views_are_never_cached(tiny_clip, monkeypatch):
    data = squares()
    images = Count(monkeypatch, tiny_clip, "encode_image")
    fit(recipe(tiny_clip), data, progress="silent")
    assert images.rows == 3 * 16


def test_images_that_a_learnable_reaches_are_never_cached(tiny_clip, monkeypatch):
    data = squares()
    r = recipe(tiny_clip, "vpt")
    r.stages[0].augment = False
    images = Count(monkeypatch, tiny_clip, "encode_image")
    fit(r, data, progress="silent", select="val")
    assert images.rows == 3 * (16 + len(data.val))


def test_drawn_views_are_encoded_once_and_taken_in_turn(tiny_clip, computed):
    data = squares()
    r = recipe(tiny_clip, epochs=5)
    fit(r, data, progress="silent", views=2)
    assert sum(computed) == 2 * len(data.train)

    source = feed(r.adapter, data, views=2)
    for epoch in (0, 1, 2):
        for batch, embedding in source.training(r.stages[0], 0, epoch, 0):
            seen = gather(data.train, batch.index.tolist(), train_transform(32), seed=mixed(1, 0), epoch=epoch % 2)
            expected = tiny_clip.encode_image(tiny_clip.normalise(seen.images)[:, None])
            assert torch.allclose(embedding, expected, atol=1e-5)


def test_views_of_few_pictures_pass_the_tower_as_one_list(tiny_clip, computed, monkeypatch):
    data = squares()
    r = recipe(tiny_clip, epochs=3)
    fit(r, data, progress="silent", views=8)
    assert computed == [3 * len(data.train)]  # not the views that no epoch asks for
    computed.clear()
    together = list(feed(r.adapter, data).in_order("train", 0, views=3, average=False))
    assert computed == [3 * len(data.train)]
    monkeypatch.setattr("cliptune.training.feed.TOGETHER", 1)
    alone = list(feed(r.adapter, data).in_order("train", 0, views=3, average=False))
    assert computed[1:] == 3 * [len(data.train)]
    assert torch.equal(together[0][1], alone[0][1])


def test_views_are_refused_where_a_learnable_reaches_the_image(tiny_clip):
    with pytest.raises(ValueError, match="learns something that changes image embeddings"):
        fit(recipe(tiny_clip, "vpt"), squares(), progress="silent", views=2)


@pytest.mark.parametrize(("views", "passes"), [(2, 2), (None, 0)])
def test_the_frozen_pass_that_a_loss_asks_for_is_made_once_for_each_view(tiny_clip, computed, views, passes):
    data = squares()
    r = build("promptsrc", tiny_clip, data.class_names, epochs=5, gpa=False)
    found = fit(r, data, progress="silent", views=views)
    assert sum(computed) == passes * len(data.train)
    again = "Those of the frozen CLIP, which the loss asks for, are computed once for each view."
    assert any(again in note for note in found.result["notes"]) == (views is not None)


def test_views_that_come_again_are_those_of_the_frozen_pass(tiny_clip):
    data = squares()
    r = build("promptsrc", tiny_clip, data.class_names)
    source, orders = feed(r.adapter, data, views=2), []
    source.begin(r.stages[0])
    for epoch in (0, 1, 2):
        orders.append([])
        for batch, embedding in source.training(r.stages[0], 0, epoch, 0):
            assert embedding is None
            orders[-1] += batch.index.tolist()
            seen = gather(data.train, batch.index.tolist(), train_transform(32), seed=mixed(1, 0), epoch=epoch % 2)
            assert torch.equal(batch.images, seen.images)
            bare = tiny_clip.encode_image(tiny_clip.normalise(seen.images)[:, None])
            torch.testing.assert_close(batch.bare, bare, rtol=1e-4, atol=1e-5)
            assert torch.equal(r.adapter.reference(batch).image_embedding, batch.bare)
            assert torch.equal(batch[1:].bare, batch.bare[1:])
    assert orders[0] != orders[2]


def test_a_loss_that_compares_with_kept_references_gives_the_same_gradient(tiny_clip):
    data, grads = squares(), []
    r = build("promptsrc", tiny_clip, data.class_names)
    source = feed(r.adapter, data, views=1)
    source.begin(r.stages[0])
    batch, _ = next(source.training(r.stages[0], 0, 0, 0))
    for shown in (batch, replace(batch, bare=None)):
        loss, _ = r.stages[0].objective(r.adapter(shown, needs=r.stages[0].objective.needs), shown, 0.0)
        grads.append(torch.autograd.grad(loss, list(r.adapter.trainable().values())))
    for a, b in zip(*grads, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-5)


def test_a_reference_is_computed_from_the_known_embedding(tiny_clip):
    def against_reference(out, batch, progress):
        loss = (out.text_features - out.reference.text_features).square().sum() + out.logits.mean()
        return loss + (out.image_features - out.reference.image_features).square().sum(), {}

    def trained(**options):
        r = recipe(tiny_clip)
        r.stages[0].augment = False
        r.stages[0].objective = WeightedLoss(against_reference, needs={"reference"})
        return fit(r, squares(), progress="silent", **options).adapter.learnables()

    live = trained(cache_features=False)
    for name, value in trained().items():
        assert torch.allclose(value, live[name], atol=1e-5)


def test_texts_are_encoded_once_per_evaluation(tiny_clip, monkeypatch):
    data = squares({"train": 2, "val": 2, "test": 9})
    adapter = recipe(tiny_clip).adapter
    texts = Count(monkeypatch, tiny_clip, "encode_text")
    evaluate(adapter, data.test, batch_size=5)
    assert texts.calls == 1
    fixed = recipe(tiny_clip, "zeroshot").adapter
    evaluate(fixed, data.test, batch_size=5)
    evaluate(fixed, data.test, batch_size=5)
    assert texts.calls == 2


def test_ordered_embeddings_belong_to_their_images(tiny_clip):
    data = squares()
    table = feed(recipe(tiny_clip).adapter, data).embeddings("test")
    for i in (0, 5, 11):
        image = transforms.test_transform(32)(data.test.image(i))[None]
        expected = tiny_clip.encode_image(tiny_clip.normalise(image)[:, None])[0]
        assert torch.allclose(table[i], expected, atol=1e-5)


@pytest.mark.parametrize("augment", [True, False])
def test_pictures_are_prepared_as_the_clip_declares(augment):
    clip = random_clip()
    clip.preprocessing = how = Preprocessing("squash", "bilinear")
    data, r = squares(), recipe(clip)
    r.stages[0].augment = augment
    source = feed(r.adapter, data, cache_features=False)
    source.begin(r.stages[0])
    transform = train_transform(32, preprocessing=how) if augment else transforms.test_transform(32, preprocessing=how)
    batch, _ = next(source.training(r.stages[0], 0, 0, 0))
    seen = gather(data.train, batch.index.tolist(), transform, seed=mixed(1, 0))
    assert torch.equal(batch.images, seen.images)


def test_a_sampler_may_add_images(tiny_clip):
    data = squares()
    added = []

    def sampler(adapter, batch, draw):
        extra = draw([0, 1])
        added.append(extra.index.tolist())
        return type(batch)(*(torch.cat([getattr(batch, f), getattr(extra, f)]) for f in ("images", "labels", "index")))

    r = recipe(tiny_clip)
    r.stages[0].sampler = sampler
    run = fit(r, data, progress="silent")
    assert added == [[0, 1]] * 12
    assert run.adapter is r.adapter
    with pytest.raises(ValueError, match="cannot be computed in pieces"):
        fit(r, data, progress="silent", accumulate=2)
