"""Tip-Adapter and Tip-Adapter-F, trained and opened again."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from cliptune.data.loader import gather
from cliptune.data.transforms import mixed, train_transform
from cliptune.registry import build
from cliptune.runs import load_adapter
from cliptune.training import fit
from tests.training.support import NAMES, squares


def test_keys_are_mean_embeddings_of_ten_crops(tiny_clip):
    data = squares()
    adapter = fit(build("tip_adapter", tiny_clip, NAMES), data, seed=2).adapter
    transform = train_transform(32, scale=(0.5, 1.0))
    positions = list(range(len(data.train)))
    views = []
    for view in range(10):
        images = gather(data.train, positions, transform, seed=mixed(2, 0), epoch=view).images
        views.append(tiny_clip.encode_image(tiny_clip.normalise(images)[:, None])[:, 0])
    expected = F.normalize(torch.stack(views).mean(dim=0), dim=-1)
    torch.testing.assert_close(adapter.head.keys, expected, rtol=1e-4, atol=1e-5)
    assert torch.equal(adapter.head.labels, data.train.labels)


@pytest.mark.parametrize("method", ["tip_adapter", "tip_adapter_f"])
def test_a_run_is_opened_with_the_cache_of_its_data(tiny_clip, tmp_path, method, images):
    recipe = build(method, tiny_clip, NAMES)
    run = fit(recipe, squares(), tmp_path / "run")
    fresh = build(method, tiny_clip, NAMES).adapter
    load_adapter(tmp_path / "run", fresh)
    assert fresh.head.keys.shape == (18, 16)
    torch.testing.assert_close(fresh.logits(images), run.adapter.logits(images))
    with pytest.raises(ValueError, match="must have shape"):
        fresh.load_learnables({**fresh.learnables(), "head.keys": torch.zeros(18, 17)})


def test_training_moves_the_keys_and_search_comes_last(tiny_clip):
    still = fit(build("tip_adapter", tiny_clip, NAMES, search=False), squares()).adapter.head
    run = fit(build("tip_adapter_f", tiny_clip, NAMES, epochs=3), squares())
    assert run.result["learnables"] == 18 * 16
    assert (run.adapter.head.keys - still.keys).abs().max() > 0
    assert [stage.name for stage in build("tip_adapter_f", tiny_clip, NAMES).stages][-1] == "search"
    without_val = squares({"train": 6, "test": 4})
    assert float(fit(build("tip_adapter", tiny_clip, NAMES), without_val).adapter.head.alpha) == pytest.approx(1.17)
