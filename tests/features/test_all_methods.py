"""Every method gives the same numbers, bit for bit, without a store, filling one, and from a full one."""

from __future__ import annotations

import pytest
import torch

from cliptune import methods
from cliptune.data.transforms import mixed
from cliptune.features import FeatureStore
from cliptune.features import embedding as module
from cliptune.registry import build
from cliptune.training import evaluate, fit
from tests.conftest import NAMES

pytestmark = pytest.mark.filterwarnings("ignore:.*have no descriptions")
METHODS = (*methods.names(), "coop+dpc", "kgcoop+dpc")


def trained(method: str, clip, dataset, store):
    """Adapter and logits on the test images after two steps a stage."""
    options = (
        {"epochs": 2 if method.startswith("dvp") else 1}
        if "epochs" in methods.describe(method.split("+")[0]).options
        else {}
    )
    if "dpc" in method:
        options |= {"dpc_epochs": 1}
    recipe = build(method, clip, NAMES, seed=1, **options)
    for stage in recipe.stages:
        stage.steps = 2 if stage.optimiser is not None else stage.steps
    views = {"views": 1} if recipe.adapter.image_is_frozen and recipe.stages else {}
    run = fit(recipe, dataset, seed=1, progress="silent", store=store, **views)
    answers = evaluate(run.adapter, dataset.test, store=store, keep_logits=True)
    return run.adapter, answers.logits


@pytest.mark.parametrize("method", METHODS)
def test_a_store_changes_no_bit(method, tiny_clip, dataset, tmp_path, monkeypatch):
    plain, logits = trained(method, tiny_clip, dataset, False)
    store = FeatureStore(tmp_path / "store")
    for attempt in ("filling", "full"):
        if attempt == "full" and plain.image_is_frozen:
            monkeypatch.setattr(module, "encoded", _refused)
        adapter, again = trained(method, tiny_clip, dataset, store)
        assert torch.equal(again, logits), attempt
        for name, value in plain.learnables().items():
            assert torch.equal(adapter.learnables()[name], value), (attempt, name)
    assert (store.bytes() > 0) == plain.image_is_frozen


def _refused(clip, batches, group):
    for _ in batches:
        raise AssertionError("a picture passed the tower, though its embedding is stored")
    return iter(())


def test_another_seed_shares_the_test_images_and_draws_its_own_views(tiny_clip, dataset, tmp_path):
    assert mixed(1, 0) != mixed(2, 0)
    store = FeatureStore(tmp_path)
    counts = []
    for seed in (1, 2):
        run = fit(
            build("coop", tiny_clip, NAMES, epochs=1), dataset, seed=seed, views=1, progress="silent", store=store
        )
        evaluate(run.adapter, dataset.test, store=store)
        counts.append(sum(len(shard) for space in store.spaces() for shard in space.shards()))
    assert counts == [len(dataset.train) + len(dataset.test), 2 * len(dataset.train) + len(dataset.test)]
