"""CLIPs of transformers with other towers than CLIP's own: the library's numbers, open ports, sentences."""

from __future__ import annotations

import json
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from cliptune import methods
from cliptune.clip.foreign.hugging_face import Passes
from cliptune.clip.ports import TowerPorts
from cliptune.clip.weights.load import load_clip
from cliptune.registry import checks
from tests.clip.foreign.vocabularies import bert, sentencepiece

TEXT = {
    "vocab_size": 300,
    "hidden_size": 24,
    "intermediate_size": 84,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "max_position_embeddings": 64,
}
IMAGE = {
    "hidden_size": 40,
    "intermediate_size": 100,
    "num_hidden_layers": 3,
    "num_attention_heads": 5,
    "patch_size": 8,
    "image_size": 32,
}
OTHER_SIZE = {**{key: value for key, value in IMAGE.items() if key != "image_size"}, "num_patches": 16}
KINDS: dict[str, tuple[str, dict[str, Any], Any]] = {
    "siglip": ("Siglip", {"text_config": {**TEXT, "projection_size": 40}, "vision_config": IMAGE}, sentencepiece),
    "siglip2": (
        "Siglip2",
        {"text_config": {**TEXT, "projection_size": 40}, "vision_config": OTHER_SIZE},
        sentencepiece,
    ),
    "chinese_clip": ("ChineseCLIP", {"text_config": TEXT, "vision_config": IMAGE, "projection_dim": 16}, bert),
    "altclip": (
        "AltCLIP",
        {"text_config": {**TEXT, "project_dim": 24}, "vision_config": IMAGE, "projection_dim": 16},
        partial(sentencepiece, front=True),
    ),
}
SENTENCES = ["a photo of a cat", "golden retriever, red panda"]
HALF = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3, "size": {"height": 32, "width": 32}, "resample": 3}


def model_of(kind: str) -> Any:
    """A model of transformers in which every value is random."""
    torch.manual_seed(0)
    name, sizes, _ = KINDS[kind]
    config = getattr(transformers, f"{name}Config")(**sizes)
    model = getattr(transformers, f"{name}Model")(config).eval().requires_grad_(False)
    for value in model.parameters():
        value += 0.1 * torch.randn_like(value)
    return model


@pytest.fixture(scope="module", params=KINDS)
def made(request, tmp_path_factory) -> tuple[str, Any, Path]:
    folder = tmp_path_factory.mktemp(request.param)
    model = model_of(request.param)
    model.save_pretrained(folder)
    KINDS[request.param][2](folder)
    return request.param, model, folder


@pytest.fixture
def siglip(tmp_path) -> Path:
    folder = tmp_path / "siglip"
    model_of("siglip").save_pretrained(folder)
    sentencepiece(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(HALF))
    return folder


def test_features_are_those_of_transformers(made):
    kind, model, folder = made
    clip = load_clip(folder)
    images, texts = torch.randn(3, 3, 32, 32), clip.tokenize(SENTENCES)
    theirs = Passes(model)
    torch.testing.assert_close(clip.encode_image(images[:, None])[:, 0], theirs.encode_image(images), rtol=0, atol=1e-5)
    torch.testing.assert_close(clip.encode_text(texts)[0], theirs.encode_text(texts.ids), rtol=0, atol=1e-5)
    assert clip.scale == pytest.approx(float(model.logit_scale.exp()))
    assert (clip.logit_bias is not None) == kind.startswith("siglip")
    assert clip.preprocessing.resize == ("squash" if kind.startswith("siglip") else "shortest")
    assert any("nothing says how pictures are prepared" in note for note in clip.notes)


def test_scores_of_a_siglip_are_those_of_its_whole_pass(siglip):
    model, clip = model_of("siglip"), load_clip(siglip)
    images, texts = torch.randn(2, 3, 32, 32), clip.tokenize(SENTENCES)
    found = model(input_ids=texts.ids, pixel_values=images).logits_per_image
    image, text = clip.encode_image(images[:, None])[:, 0], clip.encode_text(texts)[0]
    unit = (image / image.norm(dim=-1, keepdim=True)) @ (text / text.norm(dim=-1, keepdim=True)).T
    torch.testing.assert_close(clip.scale * unit + clip.logit_bias, found, rtol=1e-4, atol=1e-4)


def test_patches_of_siglip2_are_cut_as_its_processor_cuts_them(tmp_path):
    from PIL import Image

    model = model_of("siglip2")
    model.save_pretrained(tmp_path)
    sentencepiece(tmp_path)
    clip = load_clip(tmp_path)
    assert any("each is squashed to the square" in note for note in clip.notes)
    picture = torch.randint(0, 256, (32, 32, 3), generator=torch.Generator().manual_seed(3)).to(torch.uint8)
    processor = transformers.Siglip2ImageProcessor(patch_size=8, max_num_patches=16)
    given = processor(Image.fromarray(picture.numpy()), return_tensors="pt")
    expected = model.get_image_features(**given).pooler_output
    images = clip.normalise(picture.permute(2, 0, 1).float()[None] / 255)
    torch.testing.assert_close(clip.encode_image(images[None])[0], expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("hide", [False, True])
def test_image_prompts_are_rows_after_the_patches(siglip, hide):
    model, clip = model_of("siglip"), load_clip(siglip, hide_prompts=hide)
    images, prompts = torch.randn(2, 3, 32, 32), torch.randn(2, 40)
    vision = model.vision_model
    rows = torch.cat([vision.embeddings(images), prompts.expand(2, -1, -1)], dim=1)
    for layer in vision.encoder.layers:
        rows = layer(rows, None)
    expected = vision.head(vision.post_layernorm(rows[:, :16] if hide else rows))
    found = clip.encode_image(images[:, None], TowerPorts(tokens={0: prompts}))[:, 0]
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def test_methods_enter_where_there_is_a_place(made):
    kind, _, folder = made
    clip = load_clip(folder)
    for method in ("vpt", "tip_adapter_f", "clip_lora", "maple"):
        if not kind.startswith("siglip") and method in ("clip_lora", "maple"):
            with pytest.raises(ValueError, match="text"):
                methods.build(method, clip, checks.CLASSES)
            continue
        findings = [finding for finding in checks.run_checks(method, clip) if finding.name != "learnables"]
        assert not [finding.sentence for finding in findings if not finding.holds]


def test_cleaning_is_that_of_its_tokenizer(siglip, tmp_path):
    assert load_clip(siglip).tokenizer.clean == "canonicalize"
    assert load_clip(siglip, hyphens="space").tokenizer.pieces("black-eyed")[0] == "black eyed"
    path = siglip / "tokenizer_config.json"
    # As in the published repositories, whose class of that name is a slow one.
    path.write_text(json.dumps({**json.loads(path.read_text()), "tokenizer_class": "SiglipTokenizer"}))
    named = load_clip(siglip).tokenizer
    assert (named.clean, named.pieces("a photo")[0]) == ("canonicalize", "a photo")
    path.write_text(json.dumps({**json.loads(path.read_text()), "tokenizer_class": "GemmaTokenizerFast"}))
    assert load_clip(siglip).tokenizer.clean == "lower"
    with pytest.raises(ValueError, match="hyphens is for tokenizers that delete punctuation, and this one keeps it"):
        load_clip(siglip, hyphens="space")


def changed(folder: Path, **config: Any) -> None:
    path = folder / "config.json"
    found = json.loads(path.read_text())
    for name, value in config.items():
        part, _, option = name.partition("__")
        if option:
            found[part][option] = value
        else:
            found[part] = value
    path.write_text(json.dumps(found))


def without(folder: Path, *parts: str, **more: torch.Tensor) -> None:
    tensors = load_file(folder / "model.safetensors")
    save_file({k: v for k, v in tensors.items() if not k.startswith(parts)} | more, folder / "model.safetensors")


def test_what_does_not_fit_is_a_sentence(siglip, tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    edits = {
        r"missing text_model.*Give the weights of this model, both towers": lambda f: without(f, "text_model"),
        r"unexpected classifier": lambda f: without(f, "-", classifier=torch.zeros(2)),
        r"tensor text_model.head.weight must have shape \(40, 24\), got \(7, 24\)": (
            lambda f: without(f, "-", **{"text_model.head.weight": torch.zeros(7, 24)})
        ),
        r"cannot build it from its configuration \(ValueError.*7": lambda f: changed(
            f, vision_config__num_attention_heads=7
        ),
        r"the activation 'relu', which cannot be read": lambda f: changed(f, text_config__hidden_act="relu"),
        r"cannot be loaded as a CLIP.*of the kind 'blip'|without its config.json": lambda f: changed(
            f, model_type="blip"
        ),
    }
    for sentence, edit in edits.items():
        folder = tmp_path / "edited"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(siglip, folder)
        edit(folder)
        with pytest.raises(ValueError, match=sentence):
            load_clip(folder)
    assert "LOAD REPORT" not in "".join(capfd.readouterr())
    (siglip / "tokenizer.json").unlink()
    with pytest.raises(FileNotFoundError, match="its tokenizer siglip cannot be opened.*Put its files"):
        load_clip(siglip)


def test_another_release_of_transformers_is_found_out(siglip, monkeypatch):
    from transformers.models.siglip.modeling_siglip import SiglipMLP

    whole = SiglipMLP.forward
    monkeypatch.setattr(
        "transformers.models.siglip.modeling_siglip.SiglipEncoderLayer.forward",
        lambda self, hidden_states, attention_mask, **more: whole(self.mlp, hidden_states),
    )
    with pytest.raises(
        ValueError, match=r"its image features differ by .* that the installed transformers .* computes"
    ):
        load_clip(siglip)
