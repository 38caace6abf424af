"""A CLIP in company loads, with a note on what was left out; what is no CLIP is called by its name."""

from __future__ import annotations

import re

import pytest
import torch

from cliptune.clip.weights.load import load_clip
from tests.clip.weights.checkpoints import SAID, hugging_face_tensors, openai_tensors, same_weights


@pytest.fixture
def tensors(tiny_clip):
    return openai_tensors(tiny_clip)


def loaded(tmp_path, tensors):
    torch.save(tensors, tmp_path / "weights.pt")
    return load_clip(tmp_path / "weights.pt", **SAID)


@pytest.mark.parametrize(
    ("company", "named"),
    [
        (
            {"classifier.weight": torch.ones(3, 16), "classifier.bias": torch.ones(3)},
            "2 tensors .* left out .classifier",
        ),
        ({"logit_bias": torch.ones(())}, "1 tensors .* left out .logit_bias"),
        (
            {"prompt_learner.ctx": torch.ones(4, 24)},
            "1 tensors .* left out .prompt_learner",
        ),
    ],
)
@pytest.mark.parametrize("layout", ["openai", "hugging_face"])
def test_what_stands_beside_the_towers_is_left_out_and_named(tmp_path, tiny_clip, tensors, company, named, layout):
    own = tensors if layout == "openai" else hugging_face_tensors(tiny_clip)
    clip = loaded(tmp_path, own | company)
    assert same_weights(clip, tensors)
    assert re.search(named, " ".join(clip.notes))


def test_wise_ft_keeps_the_clip_in_its_encoder(tmp_path, tensors):
    wrapped = {f"image_encoder.model.{name}": value for name, value in tensors.items()}
    clip = loaded(tmp_path, wrapped | {"classification_head.weight": torch.ones(3, 16)})
    assert same_weights(clip, tensors)
    assert "as WiSE-FT has them" in " ".join(clip.notes)
    alone = {name: value for name, value in wrapped.items() if name.startswith("image_encoder.model.visual.")}
    with pytest.raises(ValueError, match="classifier of WiSE-FT without its text tower"):
        loaded(tmp_path, alone)


def test_rows_after_the_vocabulary_are_left_out(tmp_path, tensors):
    table = tensors["token_embedding.weight"]
    clip = loaded(tmp_path, tensors | {"token_embedding.weight": torch.cat([table, torch.ones(1, table.shape[1])])})
    assert same_weights(clip, tensors)
    assert "1 rows after OpenAI's vocabulary of 49408 tokens were left out" in " ".join(clip.notes)
    with pytest.raises(ValueError, match="vocabulary must be OpenAI's"):
        loaded(tmp_path, tensors | {"token_embedding.weight": torch.ones(49408 + 300, table.shape[1])})


def test_long_clip_has_two_tables_of_positions(tmp_path, tensors):
    """x + positions · (1 for the first 20) + later · (1 for the others), as its text tower adds them."""
    width = tensors["positional_embedding"].shape[1]
    first, later = torch.randn(248, width), torch.randn(248, width)
    clip = loaded(tmp_path, tensors | {"positional_embedding": first, "positional_embedding_res": later})
    kept = (torch.arange(248) < 20)[:, None]
    assert torch.equal(clip.text.positional_embedding.data, first * kept + later * ~kept)
    assert clip.text.context == 248
    assert "it is a LongCLIP of 248 tokens" in " ".join(clip.notes)


def test_tiny_clip_has_wrappers(tmp_path, tensors):
    wrapped = {
        f"_image_encoder.{name}" if name.startswith("visual.") else f"_text_encoder.{name}": value
        for name, value in tensors.items()
        if name != "logit_scale"
    }
    clip = loaded(tmp_path, {"state_dict": wrapped | {"_logit_scale.logit_scale": tensors["logit_scale"]}})
    assert same_weights(clip, tensors)
    assert "those of TinyCLIP" in " ".join(clip.notes)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("visual.attn_pool.probe", "it is a PE-Core of Meta's own code"),
        ("visual.attn_pool.query", "it is a CoCa"),
        ("visual.blocks.0.attn.q_bias", "it is an EVA-CLIP of its own code"),
        ("image_encoder.model.patch_embed.0.weight", "it is a MobileCLIP"),
        ("vision_model.head.probe", "it is a SigLIP of transformers"),
        ("base_model.model.vision_model.encoder.layers.0.self_attn.q_proj.lora_A.weight", "an adapter of PEFT.*merge"),
        ("visual.transformer.resblocks.0.attn.lora_A.default.weight", "an adapter of PEFT"),
    ],
)
def test_other_models_are_called_by_their_names(tmp_path, name, sentence):
    with pytest.raises(ValueError, match=sentence):
        loaded(tmp_path, {name: torch.ones(2), "text.x": torch.ones(1)})


def test_coops_custom_clip_says_how(tmp_path):
    parts = ("prompt_learner.ctx", "image_encoder.conv1.weight", "text_encoder.transformer.resblocks.0.ln_1.weight")
    with pytest.raises(ValueError, match=r"CustomCLIP of CoOp's code.*`cliptune convert"):
        loaded(tmp_path, dict.fromkeys(parts, torch.ones(2)))


class ImageClassifier(torch.nn.Linear):
    pass


def test_a_refused_pickle_names_the_class(tmp_path):
    torch.save(ImageClassifier(2, 2), tmp_path / "whole.pt")
    with pytest.raises(ValueError, match="was refused") as refused:
        load_clip(tmp_path / "whole.pt", **SAID)
    assert f"it names {__name__}.ImageClassifier, which is no tensor" in str(refused.value)
    assert "\x1b" not in str(refused.value)
    assert "x1b" not in str(refused.value)
