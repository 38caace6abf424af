"""Released checkpoints in and out, and what is said of files that are none."""

from __future__ import annotations

import pickle
from functools import partial

import pytest
import torch

from cliptune import interop, methods
from tests.conftest import CLASS_NAMES

OPTIONS = {
    "coop": {"n_ctx": 3, "words": ""},
    "cocoop": {"n_ctx": 3, "words": ""},
    "kgcoop": {"n_ctx": 3, "words": "", "form": "released"},
    "vpt": {"n_ctx": 3, "depth": 2},
    "ivlp": {"n_text": 3, "n_image": 2, "depth_text": 4, "depth_image": 2},
    "promptsrc": {"n_text": 3, "n_image": 2, "depth_text": 4, "depth_image": 2},
    "maple": {"n_ctx": 2, "depth": 3},
}


@pytest.mark.parametrize("method", OPTIONS)
def test_round_trip_reads_the_options_from_the_shapes(method, tiny_clip):
    recipe = methods.build(method, tiny_clip, CLASS_NAMES, **OPTIONS[method])
    published = interop.to_published(method, recipe.adapter)
    again = interop.from_published(method, published, tiny_clip, CLASS_NAMES)
    assert {k: again.config[k] for k in OPTIONS[method]} == OPTIONS[method]
    ours = recipe.adapter.learnables()
    assert all(torch.equal(value, ours[name]) for name, value in again.adapter.learnables().items())


def test_a_released_file_is_read_with_its_ballast(tiny_clip, tmp_path):
    """Buffers of the class list and frozen towers are left out; half precision becomes float32."""
    recipe = methods.build("maple", tiny_clip, CLASS_NAMES, depth=2)
    state = {f"module.{k}": v.half() for k, v in interop.to_published("maple", recipe.adapter).items()}
    state |= {
        "module.prompt_learner.token_prefix": torch.zeros(5, 1, 24),
        "module.prompt_learner.token_suffix": torch.zeros(5, 72, 24),
        "module.image_encoder.conv1.weight": tiny_clip.state_dict()["image.conv1.weight"].half(),
        "module.logit_scale": torch.tensor(4.6),
    }
    torch.save({"state_dict": state, "epoch": 5, "val_result": None}, tmp_path / "model.pth.tar-5")
    read = interop.read_published(tmp_path / "model.pth.tar-5")
    adapter = interop.from_published("maple", read, tiny_clip, ["one", "two"]).adapter
    for name, value in recipe.adapter.learnables().items():
        torch.testing.assert_close(adapter.learnables()[name], value.half().float())


def test_towers_of_another_clip_are_told(tiny_clip):
    state = interop.to_published("ivlp", methods.build("ivlp", tiny_clip, CLASS_NAMES).adapter)
    conv = tiny_clip.state_dict()["image.conv1.weight"]
    with pytest.warns(UserWarning, match=r"tensors that differ: 1, such as image_encoder.conv1.*backbone it was"):
        interop.from_published("ivlp", state | {"image_encoder.conv1.weight": conv + 0.1}, tiny_clip, CLASS_NAMES)
    bias = "text_encoder.transformer.resblocks.1.mlp.c_proj.bias"
    folded = state | {bias: tiny_clip.state_dict()["text" + bias.removeprefix("text_encoder")] + 0.1}
    with pytest.warns(UserWarning, match=r"biases, which ivlp\+bias takes over"):
        interop.from_published("ivlp", folded, tiny_clip, CLASS_NAMES)
    interop.from_published("ivlp+bias", folded, tiny_clip, CLASS_NAMES)


def test_a_prompt_learner_saved_alone_is_understood(tiny_clip):
    ctx = torch.randn(4, 24)
    given = {"ctx": ctx, "token_prefix": torch.zeros(5, 1, 24), "token_suffix": torch.zeros(5, 72, 24)}
    recipe = interop.from_published("coop", given, tiny_clip, CLASS_NAMES)
    assert torch.equal(recipe.adapter.learnables()["prompt.layers.0.value"], ctx)


def test_words_that_a_file_cannot_hold_are_refused_and_places_named(tiny_clip):
    for method in ("coop", "kgcoop"):
        build = partial(methods.build, method, tiny_clip, CLASS_NAMES, words="a photo of a")
        with pytest.raises(ValueError, match="the words 'of a' stand fixed behind the 2 learned tokens"):
            interop.to_published(method, build(n_ctx=2).adapter)
        interop.to_published(method, build(n_ctx=4).adapter)
    with pytest.warns(UserWarning, match="Give position='middle' once more"):
        interop.to_published("coop", methods.build("coop", tiny_clip, CLASS_NAMES, position="middle").adapter)


def test_class_specific_context_keeps_its_classes(tiny_clip):
    recipe = interop.from_published("coop", {"ctx": torch.randn(5, 3, 24)}, tiny_clip, CLASS_NAMES)
    assert recipe.adapter.prompt.class_specific
    with pytest.raises(ValueError, match="must have shape"):
        interop.from_published("coop", {"ctx": torch.randn(4, 3, 24)}, tiny_clip, CLASS_NAMES)


def test_other_checkpoints_are_named(tiny_clip, tmp_path):
    with pytest.raises(ValueError, match="not a released checkpoint of maple"):
        interop.from_published("maple", {"prompt_learner.prompts": torch.zeros(2)}, tiny_clip, CLASS_NAMES)
    with pytest.raises(ValueError, match="unexpected .*meta_net"):
        interop.from_published(
            "coop", {"ctx": torch.zeros(4, 24), "meta_net.bias": torch.zeros(3)}, tiny_clip, CLASS_NAMES
        )
    with pytest.raises(ValueError, match="must have shape"):
        interop.from_published("coop", {"ctx": torch.zeros(4, 512)}, tiny_clip, CLASS_NAMES)
    with pytest.raises(ValueError, match="no released checkpoint format"):
        interop.from_published("zeroshot", {}, tiny_clip, CLASS_NAMES)
    with pytest.raises(ValueError, match="is empty"):
        interop.from_published("coop", {}, tiny_clip, CLASS_NAMES)
    with pytest.raises(FileNotFoundError, match="there is no file"):
        interop.read_published(tmp_path / "absent.pth")


class Malicious:
    def __reduce__(self):
        return (print, ("executed",))


def test_nothing_in_a_file_is_executed(tmp_path, capsys):
    path = tmp_path / "model.pth.tar"
    path.write_bytes(pickle.dumps({"state_dict": Malicious()}))
    with pytest.raises(ValueError, match="cannot be read safely"):
        interop.read_published(path)
    torch.save({"state_dict": Malicious()}, path)
    with pytest.raises(ValueError, match="cannot be read safely"):
        interop.read_published(path)
    assert "executed" not in capsys.readouterr().out


class _Learner(torch.nn.Module):
    """The parameters of CoOp's prompt learner, the one module that its trainer saves and loads."""

    def __init__(self) -> None:
        super().__init__()
        self.ctx = torch.nn.Parameter(torch.zeros(3, 24))


@pytest.mark.parametrize("method", ["coop", "kgcoop", "coop+dpc"])
def test_a_prompt_learner_that_is_loaded_alone_finds_its_names(method, tiny_clip):
    """The releases load with strict=False, so that other names would be passed over in silence."""
    adapter = methods.build(method, tiny_clip, CLASS_NAMES, n_ctx=3, words="").adapter
    state = interop.to_published(method, adapter)
    learner = _Learner()
    learner.load_state_dict(state, strict=True)
    assert torch.equal(learner.ctx, state["ctx"])
