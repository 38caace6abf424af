"""What configurations say of pictures, and that a loaded CLIP, its pictures and its runs follow it."""

from __future__ import annotations

import json

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from cliptune.clip.weights.load import load_clip
from cliptune.preprocessing import MEAN, Preprocessing
from cliptune.protocols import few_shot
from cliptune.runs import load, read_adapter_config
from tests.clip.weights.checkpoints import hugging_face_tensors, openai_tensors
from tests.conftest import without_manifest
from tests.data.pictures import noise

HALF = [0.5, 0.5, 0.5]


@pytest.fixture
def open_clip_folder(tiny_clip, tmp_path):
    """Writes a folder of open_clip with this `preprocess_cfg`."""

    def write(pictures):
        folder = tmp_path / "weights"
        folder.mkdir(exist_ok=True)
        save_file(openai_tensors(tiny_clip), folder / "open_clip_model.safetensors")
        model = {"vision_cfg": {"head_width": 8}, "text_cfg": {"heads": 3}, "quick_gelu": True}
        config = {"model_cfg": model, "preprocess_cfg": pictures}
        (folder / "open_clip_config.json").write_text(json.dumps(config))
        return folder

    return write


@pytest.fixture
def hugging_face_folder(tiny_clip, tmp_path):
    def write(pictures, file="preprocessor_config.json"):
        save_file(hugging_face_tensors(tiny_clip), tmp_path / "model.safetensors")
        heads = {"text_config": {"num_attention_heads": 3}, "vision_config": {"num_attention_heads": 5}}
        (tmp_path / "config.json").write_text(json.dumps(heads))
        (tmp_path / file).write_text(json.dumps(pictures))
        return tmp_path

    return write


@pytest.mark.parametrize(
    ("declared", "expected"),
    [
        ({}, Preprocessing()),
        ({"mean": HALF, "std": HALF}, Preprocessing(mean=(0.5,) * 3, std=(0.5,) * 3)),
        ({"size": 32, "mode": "RGB", "resize_mode": "squash", "interpolation": "bicubic"}, Preprocessing("squash")),
        ({"size": [32, 32], "resize_mode": "longest", "fill_color": 127}, Preprocessing("longest", fill=127)),
        ({"interpolation": "bilinear", "resize_mode": None}, Preprocessing(interpolation="bilinear")),
        ({"interpolation": "random"}, Preprocessing(interpolation="random")),
    ],
)
def test_open_clip_declares(open_clip_folder, declared, expected):
    assert load_clip(open_clip_folder(declared)).preprocessing == expected


@pytest.mark.parametrize(
    ("declared", "sentence"),
    [
        ({"resize_mode": "fill"}, "resize_mode must be one of shortest, squash, longest"),
        ({"interpolation": "area"}, "interpolation must be one of bicubic, bilinear, random"),
        ({"fill_color": -1}, "fill_color must be a whole number"),
        ({"size": [32, 48]}, "must be square, got 32 × 48"),
        ({"mode": "L"}, "mode must be RGB"),
        ({"std": [0.5, 0.0, 0.5]}, "std must be above 0"),
    ],
)
def test_what_open_clip_does_not_declare_is_a_sentence(open_clip_folder, declared, sentence):
    with pytest.raises(ValueError, match=sentence):
        load_clip(open_clip_folder(declared))


SQUARE = {"height": 32, "width": 32}


@pytest.mark.parametrize(
    ("declared", "expected"),
    [
        # CLIPImageProcessor of transformers 5.24 as it is saved, but for the size.
        (
            {
                "crop_size": SQUARE,
                "do_center_crop": True,
                "do_resize": True,
                "resample": 3,
                "size": {"shortest_edge": 32},
            },
            Preprocessing(),
        ),
        ({"crop_size": 32, "size": 32, "rescale_factor": 1 / 255}, Preprocessing()),
        ({"crop_size": SQUARE, "size": {"shortest_edge": 36}}, Preprocessing(oversize=36 / 32)),
        ({"do_center_crop": False, "size": SQUARE, "resample": 2}, Preprocessing("squash", "bilinear")),
        ({"crop_size": SQUARE, "size": {"height": 40, "width": 40}}, Preprocessing("squash", oversize=40 / 32)),
        ({"do_normalize": False}, Preprocessing(mean=(0.0,) * 3, std=(1.0,) * 3)),
    ],
)
@pytest.mark.parametrize("file", ["preprocessor_config.json", "processor_config.json"])
def test_an_image_processor_declares(hugging_face_folder, declared, expected, file):
    written = declared if file.startswith("pre") else {"image_processor": declared, "processor_class": "CLIPProcessor"}
    assert load_clip(hugging_face_folder(written, file)).preprocessing == expected


@pytest.mark.parametrize(
    ("declared", "sentence"),
    [
        ({"resample": 1}, r"resample must be 2 \(bilinear\) or 3 \(bicubic\), got 1 \(lanczos\)"),
        ({"do_resize": False}, "do_resize is false"),
        ({"do_pad": True}, "do_pad is true"),
        ({"rescale_factor": 1 / 127.5}, "rescale_factor must be 1/255"),
        ({"size": {"longest_edge": 32}}, "must have a shortest_edge, or a height and a width"),
        ({"size": {"shortest_edge": 32}, "do_center_crop": False}, "would not be square"),
        ({"size": 28, "crop_size": 32}, "crop_size 32 is above size 28"),
    ],
)
def test_another_image_processor_is_a_sentence(hugging_face_folder, declared, sentence):
    with pytest.raises(ValueError, match=sentence):
        load_clip(hugging_face_folder(declared))


def test_another_size_than_the_towers_is_noted(open_clip_folder):
    notes = " ".join(load_clip(open_clip_folder({"size": 48, "mean": HALF, "std": HALF})).notes)
    assert "speaks of images of 48 pixels, but its tensors are of a tower that takes 32, which stands" in notes


def test_pictures_are_prepared_as_declared(open_clip_folder, dataset):
    from cliptune import build

    clip = load_clip(open_clip_folder({"resize_mode": "squash", "mean": HALF, "std": HALF}))
    picture = noise(3).resize((80, 30))
    adapter = build("zeroshot", clip, ["cat", "dog"]).adapter
    square = picture.resize((32, 32), Image.Resampling.BICUBIC)
    assert torch.equal(adapter.logits([picture]), adapter.logits([square]))
    usual = load_clip(open_clip_folder({"mean": HALF, "std": HALF}))
    assert not torch.equal(
        build("zeroshot", usual, ["cat", "dog"]).adapter.logits([picture]), adapter.logits([picture])
    )


def test_arguments_stand_in_place_of_what_is_declared(open_clip_folder):
    folder = open_clip_folder({"resize_mode": "squash", "mean": HALF, "std": HALF})
    clip = load_clip(folder, preprocessing={"resize": "longest", "mean": MEAN})
    assert clip.preprocessing == Preprocessing("longest", mean=MEAN, std=(0.5,) * 3)
    with pytest.raises(ValueError, match="'resize_mode' is not one of resize, interpolation"):
        load_clip(folder, preprocessing={"resize_mode": "longest"})


def test_a_run_keeps_its_preprocessing(open_clip_folder, dataset, tmp_path):
    folder, run = open_clip_folder({"resize_mode": "squash", "mean": HALF, "std": HALF}), tmp_path / "run"
    few_shot("zeroshot", load_clip(folder), dataset, shots=2, out=run, progress="silent")
    noted = read_adapter_config(run)["backbone"]["preprocessing"]
    assert Preprocessing.from_dict(noted) == Preprocessing("squash", mean=(0.5,) * 3, std=(0.5,) * 3)
    open_clip_folder({})  # what lies beside the weights has changed since
    assert load(run).clip.preprocessing == Preprocessing("squash", mean=(0.5,) * 3, std=(0.5,) * 3)
    with pytest.raises(ValueError, match=r"squashed to 32 × 32 .* prepares them so: short side to 32 pixels"):
        load(run, clip=load_clip(folder))


def test_a_run_that_notes_none_was_made_with_cropped_pictures(open_clip_folder, dataset, tmp_path):
    """As version 0.1 did, whatever the weights declared; the statistics were theirs."""
    pictures = {"resize_mode": "squash", "mean": HALF, "std": HALF}
    folder, run = open_clip_folder({**pictures, "resize_mode": "shortest"}), tmp_path / "run"
    few_shot("zeroshot", load_clip(folder), dataset, shots=2, out=run, progress="silent")
    assert "preprocessing" not in read_adapter_config(run)["backbone"]
    open_clip_folder(pictures)
    assert load(run).clip.preprocessing == Preprocessing(mean=(0.5,) * 3, std=(0.5,) * 3)
    with pytest.raises(ValueError, match="squashed to 32"):
        load(run, clip=load_clip(folder))


def test_an_edited_note_is_a_sentence(open_clip_folder, dataset, tmp_path):
    folder, run = open_clip_folder({"resize_mode": "squash"}), tmp_path / "run"
    few_shot("zeroshot", load_clip(folder), dataset, shots=2, out=run, progress="silent")
    path = run / "adapter_config.json"
    written = json.loads(path.read_text())
    written["backbone"]["preprocessing"]["resize"] = "anyhow"
    path.write_text(json.dumps(written))
    with pytest.raises(ValueError, match=r"backbone\.preprocessing is missing or not what is written there"):
        load(without_manifest(run))
