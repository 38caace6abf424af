"""Probes from the class texts, trained by `fit` and opened again."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from cliptune.data.loader import gather
from cliptune.data.transforms import mixed, train_transform
from cliptune.registry import build
from cliptune.runs import load_adapter
from cliptune.texts import ensemble
from cliptune.training import fit
from tests.training.support import NAMES, squares

PROBES = ("zs_probe", "clap", "ss_text", "lp_plus_plus")


@pytest.mark.parametrize("method", PROBES)
def test_a_run_is_opened_with_the_same_answers(tiny_clip, tmp_path, method, images):
    run = fit(build(method, tiny_clip, NAMES), squares(), tmp_path / "run")
    fresh = build(method, tiny_clip, NAMES).adapter
    load_adapter(tmp_path / "run", fresh)
    torch.testing.assert_close(fresh.logits(images), run.adapter.logits(images))
    assert "validation_images" not in run.result["flags"]


def test_a_search_on_validation_images_is_said(tiny_clip):
    assert build("lp_plus_plus", tiny_clip, NAMES).stages[0].observe == ("train",)
    result = fit(build("lp_plus_plus", tiny_clip, NAMES, search=True), squares()).result
    assert result["flags"]["validation_images"] == "chose the epoch, where there were any"


def test_prototypes_start_at_the_mean_embeddings_of_the_templates(tiny_clip):
    adapter = fit(build("zs_probe", tiny_clip, NAMES, templates="selected7", epochs=1), squares()).adapter
    for c, name in enumerate(NAMES):
        texts = tiny_clip.tokenize([t.replace("{}", name) for t in ensemble("selected7")])
        mean = tiny_clip.encode_text(texts)[0].mean(dim=0)
        torch.testing.assert_close(adapter.head.length[c], mean.norm(), rtol=1e-4, atol=1e-4)
        start = adapter.head.prototypes(adapter.text_features()[0])[c] - adapter.head.residual[c]
        torch.testing.assert_close(start, mean, rtol=1e-3, atol=1e-3)


def test_multipliers_are_taken_over_all_views_of_each_image(tiny_clip):
    data = squares()
    adapter = fit(build("clap", tiny_clip, NAMES, views=3, epochs=1), data, seed=2).adapter
    transform, shares = train_transform(32), []
    for view in range(3):
        images = gather(data.train, list(range(18)), transform, seed=mixed(2, 0), epoch=view).images
        feature = F.normalize(tiny_clip.encode_image(tiny_clip.normalise(images)[:, None])[:, 0], dim=-1)
        shares.append((tiny_clip.scale * feature @ adapter.text_features()[0].T).softmax(dim=1))
    mean = torch.stack(shares).mean(dim=0)
    for c in range(3):
        own = mean[data.train.labels == c, c].mean()
        torch.testing.assert_close(adapter.head.multiplier[c], own, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("method", PROBES)
def test_a_class_without_images_and_one_with_a_single_image(tiny_clip, method, images):
    data = squares()
    own = [i for c, count in enumerate((6, 1)) for i in (data.train.labels == c).nonzero()[:count, 0].tolist()]
    data = replace(data, train=data.train.subset(own))
    assert data.train.labels.bincount(minlength=3).tolist() == [6, 1, 0]
    adapter = fit(build(method, tiny_clip, NAMES), data).adapter
    assert adapter.logits(images).isfinite().all()
