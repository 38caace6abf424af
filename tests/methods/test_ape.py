"""APE and APE-T, trained and opened again."""

from __future__ import annotations

import pytest
import torch

from cliptune.batch import Batch
from cliptune.registry import build, checks
from cliptune.runs import load_adapter
from cliptune.training import fit
from tests.training.support import NAMES, few, squares


@pytest.mark.parametrize("method", ["ape", "ape_t"])
@pytest.mark.parametrize("options", [{}, {"views": 2}, {"search": True}])
def test_a_run_is_opened_with_the_keys_of_its_data(tiny_clip, tmp_path, images, method, options):
    short = {"epochs": 2} if method == "ape_t" else {"gammas": 2}
    run = fit(build(method, tiny_clip, NAMES, **short, **options), squares(), tmp_path / "run")
    assert len(run.adapter.head.keys) == 18
    assert bool(run.result["flags"].get("validation_images")) == ("search" in options)
    opened = build(method, tiny_clip, NAMES, **options).adapter
    load_adapter(tmp_path / "run", opened)
    assert torch.equal(opened.logits(images), run.adapter.logits(images))
    with pytest.raises(ValueError, match="cannot speak of other classes"):
        opened.set_classes(("yellow", "violet"))


@pytest.mark.parametrize(("counts", "times"), [((1, 1, 1), 1), ((0, 1, 3), 1), ((2, 2, 2), 2)])
def test_any_number_of_images_per_class_is_answered(tiny_clip, images, counts, times):
    data = few(counts, times)
    zero_shot = build("zeroshot", tiny_clip, NAMES).adapter.logits(images)
    for method, options in (("ape", {}), ("ape_t", {"epochs": 2})):
        run = fit(build(method, tiny_clip, NAMES, **options), data)
        assert run.adapter.logits(images).isfinite().all()
        assert not torch.allclose(run.adapter.logits(images), zero_shot)
    assert run.result["learnables"] == 3 * 8 + len(data.train)


def test_more_classes_than_channels_are_answered(tiny_clip, images):
    names = [f"class {i}" for i in range(20)]  # of 16 values each, and 8 channels
    batch = Batch.of(images, torch.tensor([0, 19, 7]))
    for method in ("ape", "ape_t", "proker", "gda", "taskres"):
        logits = checks.trained(build(method, tiny_clip, names), batch)[0].logits(images)
        assert logits.shape == (3, 20)
        assert logits.isfinite().all()
