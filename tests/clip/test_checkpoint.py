"""Files of weights that are damaged, or hold more than tensors: one sentence each, and nothing runs."""

from __future__ import annotations

import io
import json
import pickle
import struct
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import save

from cliptune.clip.weights.archive import is_torchscript, read_torchscript
from cliptune.clip.weights.checkpoint import read_tensors
from cliptune.clip.weights.declared import read_declared
from cliptune.clip.weights.load import load_clip
from cliptune.reading import check_pickle
from tests.clip.weights.checkpoints import HEAD_WIDTH, openai_tensors


def compressed(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, part in parts.items():
            archive.writestr(name, part)


def test_compressed_archives_are_refused(tmp_path):
    path = tmp_path / "x.pth"
    torch.save({"a": torch.zeros(1000)}, path)
    assert read_tensors(path)["a"].shape == (1000,)
    compressed(path)
    with pytest.raises(ValueError, match=r"refused: its part '.*' is compressed, which torch.save never does"):
        read_tensors(path)


@pytest.mark.parametrize("value", [torch.zeros(1).expand(2**30), torch.zeros(3, 3).to_sparse()])
def test_tensors_that_stand_for_more_than_is_stored_are_refused(tmp_path, value):
    torch.save({"a": value}, tmp_path / "x.pth")
    with pytest.raises(ValueError, match="tensor 'a' of shape .* stands for more numbers than are stored"):
        read_tensors(tmp_path / "x.pth")


def test_small_expanded_tensors_are_read(tmp_path):
    torch.save({"a": torch.ones(1).expand(30)}, tmp_path / "x.pth")
    assert read_tensors(tmp_path / "x.pth")["a"].tolist() == [1.0] * 30


def test_a_number_type_that_torch_lacks_is_a_sentence(tmp_path):
    header = json.dumps({"a": {"dtype": "F8_E8M9", "shape": [1], "data_offsets": [0, 1]}}).encode()
    (tmp_path / "x.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + b"\0")
    with pytest.raises(ValueError, match="is not a whole safetensors file"):
        read_tensors(tmp_path / "x.safetensors")


def test_an_end_that_speaks_of_other_disks_is_a_sentence(tmp_path):
    path = tmp_path / "x.pt"
    torch.save({"a": torch.zeros(2)}, path)
    content = bytearray(path.read_bytes())
    at = content.rindex(b"PK\x06\x07") if b"PK\x06\x07" in content else content.rindex(b"PK\x05\x06")
    content[at + 4 : at + 8] = b"\1\0\0\0"
    content[at + 16 : at + 20] = b"\2\0\0\0"
    path.write_bytes(content)
    assert not is_torchscript(path)
    with pytest.raises(ValueError, match="is cut off|is damaged"):
        read_tensors(path)


class _Elsewhere:
    """Pickled, it refers to something outside, by a name that is long once it is written out."""

    name: object = ()


class _Pickler(pickle.Pickler):
    def persistent_id(self, value: object) -> object:
        return value.name if isinstance(value, _Elsewhere) else None


def test_what_a_pickle_refers_to_is_not_written_out(tmp_path):
    _Elsewhere.name = ("kind",)
    for _ in range(12):
        _Elsewhere.name = (_Elsewhere.name, _Elsewhere.name)
    content = io.BytesIO()
    _Pickler(content, 2).dump([_Elsewhere()])
    with zipfile.ZipFile(tmp_path / "x.pt", "w") as archive:
        archive.writestr("x/data.pkl", content.getvalue())
        archive.writestr("x/code/x.py", b"")
    with pytest.raises(ValueError) as raised:
        read_torchscript(tmp_path / "x.pt")
    assert len(str(raised.value)) < 400


def test_pickles_that_number_beyond_their_length_are_refused():
    content = pickle.dumps({"a": [1, 2]}, protocol=2)
    check_pickle(content)
    with pytest.raises(ValueError, match="beyond its own length"):
        check_pickle(content[:2] + b"]r\xe8\x03\x00\x000" + content[2:])


def test_weights_that_are_no_fractions_are_refused(tmp_path, tiny_clip):
    tensors = openai_tensors(tiny_clip)
    for name, other, sentence in (
        ("visual.proj", tensors["visual.proj"].long(), "must hold numbers like torch.float32, got torch.int64"),
        ("logit_scale", torch.zeros(2), "logit_scale must be one number"),
        ("positional_embedding", torch.zeros(3), "must have 2 axes, none of length 0"),
        ("visual.positional_embedding", torch.zeros(0, 40), "must have 2 axes, none of length 0"),
    ):
        (tmp_path / "x.safetensors").write_bytes(save({**tensors, name: other}))
        with pytest.raises(ValueError, match=sentence):
            load_clip(tmp_path / "x.safetensors", activation="gelu", head_width=HEAD_WIDTH)


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        ({"text_config": []}, "text_config must be an object, got"),
        ({"text_config": [1]}, "text_config must be an object, got"),
        ({"text_config": {"hidden_act": ["gelu"]}}, "hidden_act must be quick_gelu or gelu"),
        ({"text_config": {"hidden_act": "a\nb"}}, "hidden_act must be .* got a b and quick_gelu"),
        ({"vision_config": {"layer_norm_eps": "1"}}, "layer_norm_eps must be"),
        ({"vision_config": {"num_attention_heads": 0}}, "num_attention_heads must be a whole number from 1, got 0"),
        ({"vision_config": {"num_attention_heads": True}}, "num_attention_heads must be a whole number from 1"),
    ],
)
def test_odd_configurations_of_hugging_face_are_sentences(tmp_path, config, sentence):
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=sentence):
        read_declared(tmp_path, "hugging_face")


@pytest.mark.parametrize(
    "mean", [[0.5, "0.4", 0.3], [0.5, None, 0.3], [1, 2], 0.5, [0.1, 0.2, 1e300], [0, 0, float("nan")]]
)
def test_odd_statistics_are_sentences(tmp_path, mean):
    (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": {}, "preprocess_cfg": {"mean": mean}}))
    with pytest.raises(ValueError, match="mean and std must be three numbers, one per channel, got"):
        read_declared(tmp_path, "open_clip")


def test_names_of_tensors_stay_on_their_line(tmp_path, tiny_clip):
    tensors = {**openai_tensors(tiny_clip), "visual.odd\n\x1b[31m": torch.zeros(1)}
    (tmp_path / "x.safetensors").write_bytes(save(tensors))
    with pytest.raises(ValueError, match=r"unexpected image\.odd \\x1b\[31m") as raised:
        load_clip(tmp_path / "x.safetensors", activation="gelu", head_width=HEAD_WIDTH)
    assert "\n" not in str(raised.value)
