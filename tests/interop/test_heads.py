"""Released checkpoints of heads: TaskRes and CLAP, as their releases write them."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from cliptune.interop import from_published, read_published, to_published
from cliptune.registry import build
from tests.conftest import CLASS_NAMES


def features_of(clip, images):
    return F.normalize(clip.encode_image(clip.normalise(images)[:, None])[:, 0], dim=-1)


def texts_of(clip, **options):
    return build("zeroshot", clip, CLASS_NAMES, **options).adapter.text_features()[0]


@pytest.mark.parametrize("method", ["clap", "zs_probe"])
def test_prototypes_of_a_released_file_answer_as_its_formula(method, tiny_clip, images, tmp_path):
    """As trainers/adapters.py writes it: embeddings of the texts before unit norm, and what became of them."""
    base = torch.tensor([9.0, 8.0, 7.0, 10.0, 6.0])[:, None] * texts_of(tiny_clip)
    prototypes = base + torch.randn(5, 16)
    state = {"prototypes": prototypes, "base_text_features": base}
    torch.save({"state_dict": state, "epoch": 300, "val_result": None}, tmp_path / "model.pth.tar-300")
    recipe = from_published(method, read_published(tmp_path / "model.pth.tar-300"), tiny_clip, CLASS_NAMES)
    assert recipe.notes == ()
    expected = tiny_clip.scale * features_of(tiny_clip, images) @ F.normalize(prototypes, dim=-1).T
    adapter = recipe.adapter.eval()
    torch.testing.assert_close(adapter.logits(images), expected, rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(adapter.head.length, base.norm(dim=-1))
    written = to_published(method, adapter)
    assert written.keys() == state.keys()
    for name, value in written.items():
        torch.testing.assert_close(value, state[name], rtol=1e-5, atol=1e-5)


def test_prototypes_that_began_at_other_texts_answer_the_same_and_that_is_noted(tiny_clip, images):
    state = {"prototypes": torch.randn(5, 16), "base_text_features": torch.randn(5, 16)}
    recipe = from_published("clap", state, tiny_clip, CLASS_NAMES)
    assert "the texts of 5 of 5 classes" in recipe.notes[0]
    expected = tiny_clip.scale * features_of(tiny_clip, images) @ F.normalize(state["prototypes"], dim=-1).T
    torch.testing.assert_close(recipe.adapter.eval().logits(images), expected, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize(
    ("state", "why"),
    [
        ({"base_text_features": torch.zeros(5, 16)}, "missing prototypes"),
        ({"prototypes": torch.zeros(5, 16), "cache_keys": torch.zeros(9, 16)}, "unexpected .*cache_keys"),
        ({"prototypes": torch.zeros(4, 16)}, r"prototypes must be \(5, 16\).* got \(4, 16\)"),
    ],
)
def test_other_files_are_refused(state, why, tiny_clip):
    with pytest.raises(ValueError, match=why):
        from_published("clap", state, tiny_clip, CLASS_NAMES)


def test_a_released_residual_answers_as_its_formula(tiny_clip, images, tmp_path):
    """As trainers/taskres.py writes it. The scale of the residual is not in the file."""
    residual = torch.randn(5, 16)
    embedding = build("taskres", tiny_clip, CLASS_NAMES).adapter
    texts = [
        tiny_clip.encode_text(tiny_clip.tokenize([embedding.classes.template.format(n)]))[0, 0] for n in CLASS_NAMES
    ]
    base = torch.stack(texts)
    state = {"base_text_features": base, "text_feature_residuals": residual}
    torch.save({"state_dict": state, "epoch": 200}, tmp_path / "model-best.pth.tar")
    tensors = read_published(tmp_path / "model-best.pth.tar")
    recipe = from_published("taskres", tensors, tiny_clip, CLASS_NAMES, alpha=1.0)
    expected = tiny_clip.scale * features_of(tiny_clip, images) @ F.normalize(base + residual, dim=-1).T
    torch.testing.assert_close(recipe.adapter.eval().logits(images), expected, rtol=1e-4, atol=1e-3)
    assert not any("alpha" in note for note in recipe.notes)
    assert to_published("taskres", recipe.adapter).keys() == {"text_feature_residuals"}
    unsaid = from_published("taskres", tensors, tiny_clip, CLASS_NAMES)
    assert "from_published: alpha is in no checkpoint of taskres, was left out and is 0.5." in unsaid.notes
