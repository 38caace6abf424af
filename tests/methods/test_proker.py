"""ProKeR, trained and opened again."""

from __future__ import annotations

import pytest
import torch

from cliptune.registry import build
from cliptune.runs import load_adapter
from cliptune.training import fit
from tests.training.support import NAMES, few, squares


@pytest.mark.parametrize("options", [{}, {"views": 3}, {"search": True, "betas": 2, "ridges": 2}])
def test_a_run_is_opened_with_the_keys_of_its_data(tiny_clip, tmp_path, images, options):
    run = fit(build("proker", tiny_clip, NAMES, **options), squares(), tmp_path / "run")
    assert run.adapter.head.keys.shape == (18 * options.get("views", 1), 16)
    assert bool(run.result["flags"].get("validation_images")) == ("search" in options)
    opened = build("proker", tiny_clip, NAMES, **options).adapter
    load_adapter(tmp_path / "run", opened)
    assert torch.equal(opened.logits(images), run.adapter.logits(images))
    with pytest.raises(ValueError, match="cannot speak of other classes"):
        opened.set_classes(("yellow", "violet"))


@pytest.mark.parametrize(("counts", "times"), [((1, 1, 1), 1), ((0, 1, 3), 1), ((2, 2, 2), 2)])
def test_any_number_of_images_per_class_is_answered(tiny_clip, counts, times):
    data = few(counts, times)
    adapter = fit(build("proker", tiny_clip, NAMES), data).adapter
    logits = torch.stack([adapter.logits([data.train.image(i)])[0] for i in range(len(data.train))])
    zero_shot = build("zeroshot", tiny_clip, NAMES).adapter
    before = torch.stack([zero_shot.logits([data.train.image(i)])[0] for i in range(len(data.train))])
    own = (logits - before)[torch.arange(len(logits)), data.train.labels]
    assert logits.isfinite().all()
    assert (own > 0).all()  # every training image moves towards its class
