import pytest
import torch

from cliptune.registry import build
from cliptune.training import SharedImages, evaluate, fit
from tests.training.support import squares


@pytest.mark.parametrize("method", ["gda", "linear_probe", "zeroshot", "coop", "vpt"])
def test_what_is_shared_changes_no_number(tiny_clip, method):
    data, shared = squares(), SharedImages()
    options = {"epochs": 1} if method in ("coop", "vpt") else {}

    def logits(**how):
        adapter = fit(build(method, tiny_clip, data.class_names, **options), data, progress="silent", **how).adapter
        return evaluate(adapter, data.test, keep_logits=True, **how).logits

    alone = logits()
    assert torch.equal(alone, logits(shared=shared))
    assert torch.equal(alone, logits(shared=shared))


def test_an_image_is_embedded_once_for_all_runs_and_parts(tiny_clip, computed):
    data, shared = squares(), SharedImages()
    for method in ("gda", "linear_probe", "zs_probe"):
        run = fit(build(method, tiny_clip, data.class_names), data, progress="silent", shared=shared)
        evaluate(run.adapter, data.test, shared=shared)
    assert sum(computed) == len(data.train) + len(data.test) + len(data.val)  # linear_probe looks at val
    seen = len(computed)
    part = data.with_picks(range(0, len(data.train), 2), [], {"rule": "every other"})
    run = fit(build("gda", tiny_clip, data.class_names), part, progress="silent", shared=shared)
    evaluate(run.adapter, data.train.subset([3, 1, 3]), shared=shared)
    assert len(computed) == seen


def test_an_image_that_repeats_is_embedded_once(tiny_clip, computed):
    data, shared = squares(), SharedImages()
    adapter = build("zeroshot", tiny_clip, data.class_names).adapter
    twice = evaluate(adapter, data.test.subset([2, 0, 2]), shared=shared, keep_logits=True).logits
    assert sum(computed) == 2
    assert torch.equal(twice[0], twice[2])


def test_another_precision_is_another_embedding(tiny_clip, computed):
    data, shared = squares(), SharedImages()
    adapter = build("zeroshot", tiny_clip, data.class_names).adapter
    for precision in ("fp32", "bf16", "fp32"):
        evaluate(adapter, data.test, shared=shared, precision=precision)
    assert sum(computed) == 2 * len(data.test)


def test_images_that_learnables_reach_are_not_looked_up(tiny_clip):
    data, shared = squares(), SharedImages()
    zero = build("zeroshot", tiny_clip, data.class_names).adapter
    deep = build("vpt", tiny_clip, data.class_names).adapter
    expected = evaluate(deep, data.test, keep_logits=True).logits
    evaluate(zero, data.test, shared=shared)
    assert torch.equal(evaluate(deep, data.test, shared=shared, keep_logits=True).logits, expected)
