import pytest
import torch

from cliptune.training import evaluate, fit
from cliptune.training.precision import towers_in
from tests.training.support import recipe, squares


def test_weights_come_back_exactly_even_after_an_error(tiny_clip):
    before = {name: p.clone() for name, p in tiny_clip.named_parameters()}

    def interrupted():
        with towers_in(tiny_clip, "bf16"):
            assert tiny_clip.dtype == torch.bfloat16
            assert tiny_clip.logit_scale.dtype == torch.float32
            raise RuntimeError

    with pytest.raises(RuntimeError):
        interrupted()
    for name, p in tiny_clip.named_parameters():
        assert torch.equal(p, before[name]), name


@pytest.mark.parametrize(("precision", "tolerance"), [("bf16", 0.2), ("fp16", 0.03)])
def test_narrow_towers_learn_in_float32_and_come_close(tiny_clip, precision, tolerance):
    start = recipe(tiny_clip, "maple").adapter.learnables()
    exact = fit(recipe(tiny_clip, "maple"), squares(), progress="silent").adapter.learnables()
    run = fit(recipe(tiny_clip, "maple"), squares(), precision=precision, progress="silent")
    for name, value in run.adapter.learnables().items():
        assert value.dtype == torch.float32
        moved = (exact[name] - start[name]).norm()
        assert 0 < (value - exact[name]).norm() < tolerance * moved, name


def test_the_loss_scale_is_resumed(tiny_clip, tmp_path):
    from tests.training.test_fit import StopAfter, same

    options = {"precision": "fp16", "save_every": 0}
    whole = fit(recipe(tiny_clip, "maple"), squares(), progress="silent", precision="fp16")
    with pytest.raises(KeyboardInterrupt):
        fit(recipe(tiny_clip, "maple"), squares(), tmp_path, progress=StopAfter(6), **options)
    cut = fit(recipe(tiny_clip, "maple"), squares(), tmp_path, progress="silent", **options)
    same(cut.adapter.learnables(), whole.adapter.learnables())


def test_frozen_text_is_encoded_anew_in_another_precision(tiny_clip):
    adapter = recipe(tiny_clip, "zeroshot").adapter
    data = squares()
    exact = evaluate(adapter, data.test, keep_logits=True).logits
    narrow = evaluate(adapter, data.test, precision="bf16", keep_logits=True).logits
    assert not torch.equal(exact, narrow)
    assert torch.equal(evaluate(adapter, data.test, keep_logits=True).logits, exact)


def test_unknown_precision_is_refused(tiny_clip):
    with pytest.raises(ValueError, match="precision must be one of fp32, bf16, fp16, got 'half'"):
        fit(recipe(tiny_clip), squares(), precision="half", progress="silent")
