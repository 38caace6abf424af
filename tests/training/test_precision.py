from types import SimpleNamespace

import pytest
import torch

from cliptune.training import evaluate, fit
from cliptune.training import precision as of_precision
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
    with pytest.raises(ValueError, match="precision must be one of fp32, bf16, fp16, auto, got 'half'"):
        fit(recipe(tiny_clip), squares(), precision="half", progress="silent")


WIDE_ENOUGH = SimpleNamespace(device=torch.device("cpu"), image=SimpleNamespace(width=768))
NARROW = SimpleNamespace(device=torch.device("cpu"), image=SimpleNamespace(width=64))


@pytest.mark.parametrize(
    ("able", "clip", "expected", "why"),
    [
        (True, WIDE_ENOUGH, "bf16", "because this cpu multiplies bfloat16 faster than float32"),
        (True, NARROW, "fp32", "because in towers narrower than 512 bfloat16 is not faster"),
        (False, WIDE_ENOUGH, "fp32", "because this cpu has no products of bfloat16"),
    ],
)
def test_auto_asks_the_device_and_the_width(monkeypatch, able, clip, expected, why):
    monkeypatch.setattr(of_precision, "multiplies_bfloat16", lambda device: able)
    assert of_precision.chosen("auto", clip) == (expected, why)
    for name in ("fp32", "bf16", "fp16"):
        assert of_precision.chosen(name, clip) == (name, "as asked")


def test_auto_keeps_float32_for_a_method_that_bfloat16_was_seen_to_change(monkeypatch):
    why = "gradients of it were up to 3.0 % off in norm"
    monkeypatch.setattr(of_precision, "multiplies_bfloat16", lambda device: True)
    assert of_precision.chosen("auto", WIDE_ENOUGH, why) == ("fp32", f"because {why}")
    assert of_precision.chosen("bf16", WIDE_ENOUGH, why) == ("bf16", "as asked")


@pytest.mark.parametrize(
    ("method", "expected"), [("coop", "fp32"), ("vpt", "fp32"), ("kgcoop", "bf16"), ("maple", "bf16")]
)
def test_a_run_says_that_its_method_keeps_float32(tiny_clip, monkeypatch, method, expected):
    monkeypatch.setattr(of_precision, "multiplies_bfloat16", lambda device: True)
    monkeypatch.setattr(of_precision, "WIDE", 1)
    result = fit(recipe(tiny_clip, method, epochs=1), squares(), precision="auto", progress="silent").result
    assert result["flags"]["precision"] == expected
    said = f"gradients of {method} in bfloat16 were up to" if expected == "fp32" else "multiplies bfloat16 faster"
    assert any(
        note.startswith(f"The frozen towers are in {expected}, because") and said in note for note in result["notes"]
    )


def test_an_add_on_keeps_what_its_host_says_of_bfloat16(tiny_clip):
    assert recipe(tiny_clip, "coop+rlp").exact == recipe(tiny_clip, "coop").exact != ""
    assert recipe(tiny_clip, "kgcoop+dpc").exact == ""


@pytest.mark.parametrize("name", ["dapt", "textrefiner"])
def test_an_add_on_may_speak_against_bfloat16_itself(tiny_clip, name):
    assert f"gradients with {name} in bfloat16" in recipe(tiny_clip, f"kgcoop+{name}").exact
    assert recipe(tiny_clip, f"coop+{name}").exact == recipe(tiny_clip, "coop").exact


@pytest.mark.parametrize(("found", "expected"), [((True, False), True), ((False, True), True), ((False, False), False)])
def test_a_processor_is_asked_for_its_instructions(monkeypatch, found, expected):
    for name, answer in zip(("avx512_bf16", "amx_tile"), found, strict=True):
        monkeypatch.setattr(torch.cpu, f"_is_{name}_supported", lambda answer=answer: answer, raising=False)
    assert of_precision.multiplies_bfloat16(torch.device("cpu")) is expected
    assert not of_precision.multiplies_bfloat16(torch.device("meta"))


def test_of_a_processor_that_torch_says_nothing_about_nothing_is_known(monkeypatch):
    for name in ("avx512_bf16", "amx_tile"):
        monkeypatch.delattr(torch.cpu, f"_is_{name}_supported", raising=False)
    assert not of_precision.multiplies_bfloat16(torch.device("cpu"))


@pytest.mark.parametrize("width", [40, 4096])
def test_a_run_says_what_auto_stood_for_and_equals_it(tiny_clip, tmp_path, monkeypatch, width):
    monkeypatch.setattr(of_precision, "multiplies_bfloat16", lambda device: True)
    monkeypatch.setattr(of_precision, "WIDE", width)
    expected = "bf16" if width == 40 else "fp32"
    runs = [
        fit(recipe(tiny_clip, "kgcoop"), squares(), tmp_path / asked, precision=asked, progress="silent")
        for asked in ("auto", expected)
    ]
    first, second = (run.adapter.learnables() for run in runs)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert [run.result["flags"]["precision"] for run in runs] == [expected, expected]
    assert [any("The frozen towers are in" in note for note in run.result["notes"]) for run in runs] == [True, False]
    again = fit(recipe(tiny_clip, "kgcoop"), squares(), tmp_path / "auto", precision=expected, progress="silent")
    assert again.result == runs[0].result
