"""Files of weights: safetensors, archives of torch, pickles that would run code, and configurations beside them."""

from __future__ import annotations

import builtins
import io
import json
import os
import pathlib
import pickle
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from hypothesis import strategies as st
from safetensors.torch import save

from cliptune.clip import CLIPConfig
from cliptune.clip.weights.archive import read_torchscript, stated_activation
from cliptune.clip.weights.checkpoint import read_tensors
from cliptune.clip.weights.declared import read_declared
from cliptune.clip.weights.load import load_clip
from cliptune.interop import read_published
from cliptune.preprocessing import Preprocessing
from tests.clip.weights.checkpoints import openai_tensors, save_torchscript
from tests.conftest import random_clip
from tests.fuzz.campaign import MIB, REFUSED, campaign
from tests.fuzz.changes import ODD, changed_bytes, changed_values, json_cases, mutated

SMALL = {"a.weight": torch.arange(6.0).reshape(2, 3), "b": torch.arange(4).half(), "empty": torch.zeros(0, 2)}
SIZES = {"embed": 8, "resolution": 16, "image_width": 8, "image_layers": 1, "patch": 8}
TINIEST = CLIPConfig(**SIZES, context=9, vocab=49408, text_width=8, text_layers=1, head_width=8)
DTYPES = {"F32": ("f", 4), "F16": ("e", 2), "I64": ("q", 8), "U8": ("B", 1), "F64": ("d", 8)}


@pytest.fixture(scope="module")
def tensors() -> dict[str, torch.Tensor]:
    """Those of the smallest CLIP, in half precision."""
    return {name: value.half() for name, value in openai_tensors(random_clip(TINIEST)).items()}


def unpacked(content: bytes) -> tuple[Any, bytes]:
    length = struct.unpack("<Q", content[:8])[0]
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def packed(header: Any, data: bytes) -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def headers(content: bytes) -> Any:
    """Files with another header, or a few other bytes."""
    header, data = unpacked(content)
    return changed_values([header]).map(lambda other: packed(other, data)) | changed_bytes([content])


def numbers(tensors: dict[str, torch.Tensor]) -> dict[str, Any]:
    return {name: (list(value.shape), repr(value.flatten().tolist())) for name, value in tensors.items()}


def test_safetensors(tmp_path):
    def read(case: bytes) -> Any:
        (tmp_path / "x.safetensors").write_bytes(case)
        return numbers(read_tensors(tmp_path / "x.safetensors"))

    campaign("safetensors", headers(save(SMALL)), read, tmp_path)


def test_safetensors_are_what_a_plain_reader_finds(tmp_path):
    def read(case: Any) -> Any:
        (tmp_path / "x.safetensors").write_bytes(case[0])
        return numbers(read_tensors(tmp_path / "x.safetensors"))

    def plain(case: Any) -> Any:
        header, data = unpacked(case[0])
        found = {}
        for name, entry in header.items():
            kind, width = DTYPES[entry["dtype"]]
            first, last = entry["data_offsets"]
            values = struct.unpack(f"<{(last - first) // width}{kind}", data[first:last])
            found[name] = (entry["shape"], repr(list(values)))
        return found

    kinds = {"F32": torch.float32, "F16": torch.float16, "I64": torch.int64, "U8": torch.uint8, "F64": torch.float64}
    shapes = st.lists(st.integers(0, 4), max_size=3)
    made = st.tuples(st.sampled_from(sorted(kinds)), shapes, st.integers(0, 200)).map(
        lambda t: torch.full(t[1], t[2]).to(kinds[t[0]])
    )
    named = st.dictionaries(st.text("abc.", min_size=1, max_size=6).filter(lambda n: n[0] not in "."), made, min_size=1)
    named = named.filter(lambda tensors: len({n.split(".")[0] for n in tensors}) > 0)
    campaign("safetensors, whole", named.map(lambda t: (save(t),)), read, tmp_path, plain=plain)


def zipped(parts: dict[str, bytes], how: int = zipfile.ZIP_STORED) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", how) as archive:
        for name, part in parts.items():
            archive.writestr(name, part)
    return content.getvalue()


def parts_of(content: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def archives(content: bytes) -> Any:
    """Archives with other bytes anywhere, another pickle in it, parts missing, compressed, or elsewhere."""
    parts = parts_of(content)
    pickled = next(name for name in parts if name.endswith("data.pkl"))
    names = sorted(parts)
    other_names = st.sampled_from(["../up", "/above", "a/../../up", "x" * 300, "data.pkl", "a/data.pkl"])
    return st.one_of(
        changed_bytes([content]),
        changed_bytes([parts[pickled]]).map(lambda other: zipped({**parts, pickled: other})),
        st.sampled_from(names).map(lambda gone: zipped({n: p for n, p in parts.items() if n != gone})),
        st.just(zipped(parts, zipfile.ZIP_DEFLATED)),
        st.tuples(st.sampled_from(names), other_names).map(
            lambda pair: zipped({pair[1] if n == pair[0] else n: p for n, p in parts.items()})
        ),
        st.tuples(st.sampled_from(names), st.binary(max_size=40)).map(lambda t: zipped({**parts, t[0]: t[1]})),
    )


def saved(value: Any, **how: Any) -> bytes:
    content = io.BytesIO()
    torch.save(value, content, **how)
    return content.getvalue()


def test_archives_of_torch_save(tmp_path):
    views = torch.arange(12.0).reshape(3, 4)
    value = {"state_dict": {**SMALL, "view": views[:, 1:3], "same": views}, "epoch": 5}

    def read(case: bytes) -> Any:
        (tmp_path / "x.pth").write_bytes(case)
        return numbers(read_tensors(tmp_path / "x.pth"))

    campaign("torch.save, zip", archives(saved(value)), read, tmp_path)
    old = saved(value, _use_new_zipfile_serialization=False)
    campaign("torch.save, pickle", changed_bytes([old]), read, tmp_path)


def test_archives_of_torchscript(tmp_path):
    content = save_torchscript({"visual.a": torch.ones(2, 3), "b": torch.zeros(4)}, tmp_path / "x.pt").read_bytes()

    def read(case: bytes) -> Any:
        (tmp_path / "x.pt").write_bytes(case)
        stated_activation(tmp_path / "x.pt")
        return numbers(read_torchscript(tmp_path / "x.pt"))

    campaign("TorchScript", archives(content), read, tmp_path)


def test_released_checkpoints(tmp_path):
    state = saved({"state_dict": {"prompt_learner.ctx": torch.ones(2, 3)}, "epoch": 5, "val_result": None})
    visual = saved({"visual_prompt_dict": OrderedDict(program=torch.ones(3)), "mapping_matrix": None})
    safe = save({"prompt_learner.ctx": torch.ones(2, 3)})

    def read(case: tuple[str, bytes]) -> Any:
        path = tmp_path / f"model{case[0]}"
        path.write_bytes(case[1])
        return numbers(read_published(path))

    cases = st.one_of(
        st.tuples(st.just(".pth.tar-5"), archives(state)),
        st.tuples(st.just(".pth"), archives(visual)),
        st.tuples(st.just(".safetensors"), headers(safe)),
    )
    campaign("released checkpoints", cases, read, tmp_path)


class Names:
    """Pickled, it asks for a function to be called when it is read."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


def programs(marker: Path) -> list[Names]:
    """Calls that would leave `marker` behind."""
    there = str(marker)
    return [
        Names(os.mkdir, there),
        Names(open, there, "w"),
        Names(io.FileIO, there, "w"),
        Names(pathlib.Path.touch, marker),
        Names(builtins.exec, f"open({there!r}, 'w')"),
        Names(builtins.eval, f"open({there!r}, 'w')"),
        Names(torch.save, {}, there),
        Names(getattr, marker, "touch"),
        Names(os.putenv, "CLIPTUNE_FUZZ_MARK", "1"),
    ]


def test_pickles_that_would_run_code(tmp_path):
    marker = tmp_path / "marker"
    script = parts_of(save_torchscript({"b": torch.zeros(4)}, tmp_path / "x.pt").read_bytes())
    pickled = next(name for name in script if name.endswith("data.pkl"))

    def written(program: Names, protocol: int, place: int) -> bytes:
        value = ({"state_dict": {"a": torch.ones(2), "b": program}}, program, [program, {"a": program}])[place % 3]
        if place < 3:
            return saved(value, pickle_protocol=max(protocol, 2))
        if place < 6:
            return saved(value, pickle_protocol=max(protocol, 2), _use_new_zipfile_serialization=False)
        if place < 9:
            return pickle.dumps(value, protocol=protocol)
        return zipped({**script, pickled: pickle.dumps(program, protocol=protocol)})

    cases = st.builds(written, st.sampled_from(programs(marker)), st.integers(0, 5), st.integers(0, 11))
    cases = st.one_of(cases, st.tuples(cases, st.integers(0, 2**32)).flatmap(lambda t: changed_bytes([t[0]])))

    def read(case: bytes) -> Any:
        refused = None
        for name, reader in (("x.pt", read_tensors), ("x.pth", read_published), ("y.pt", read_torchscript)):
            (tmp_path / name).write_bytes(case)
            try:
                reader(tmp_path / name)
            except ValueError as error:
                refused = error
            assert not marker.exists()
            assert "CLIPTUNE_FUZZ_MARK" not in os.environ
        assert refused is not None
        raise refused

    campaign("pickles that would run code", cases, read, tmp_path, plain=lambda case: REFUSED)


def test_clips_from_files(tmp_path, tensors):
    names = sorted(tensors)
    content = save(tensors)
    shapes = st.lists(st.sampled_from([0, 1, 2, 3, 8, 9, 24, 77]), max_size=4)

    def changed(name: str, shape: list[int], kind: int) -> bytes:
        other = dict(tensors)
        if kind == 0:
            del other[name]
        elif kind == 1:
            other[name] = torch.zeros(shape)
        elif kind == 2:
            other[f"{name}.more"] = torch.zeros(shape)
        elif kind == 3:
            other[name] = other[name].flatten()[: max(1, len(shape))].clone()
        else:
            other[name] = other[name].to((torch.int64, torch.float64, torch.bool, torch.bfloat16)[len(shape) % 4])
        return save(other)

    few = [name for name in names if "resblocks" not in name]
    header, data = unpacked(content)
    # The files have a megabyte each, so a case is what makes one.
    cases = st.one_of(
        st.tuples(st.just(changed), st.sampled_from(few) | st.sampled_from(names), shapes, st.integers(0, 4)),
        st.tuples(st.just(lambda other: packed(other, data)), changed_values([header])),
        st.tuples(st.just(lambda n: mutated(content, [content], Random(n))), st.integers(0, 2**48)),
    )

    def read(case: tuple[Any, ...]) -> Any:
        (tmp_path / "x.safetensors").write_bytes(case[0](*case[1:]))
        clip = load_clip(tmp_path / "x.safetensors", activation="gelu", head_width=8)
        with torch.no_grad():
            size = clip.config.resolution
            return tuple(clip.encode_image(torch.zeros(1, 1, 3, size, size)).shape)

    campaign("CLIPs from files", cases, read, tmp_path, memory=1024 * MIB)


@pytest.mark.parametrize("layout", ["hugging_face", "open_clip"])
def test_configurations_beside_weights(tmp_path, layout):
    hugging_face = {
        "text_config": {
            "hidden_act": "quick_gelu",
            "num_attention_heads": 8,
            "eos_token_id": 2,
            "layer_norm_eps": 1e-5,
        },
        "vision_config": {"hidden_act": "quick_gelu", "num_attention_heads": 12},
    }
    images = {
        "image_mean": [0.5, 0.4, 0.3],
        "image_std": [0.2, 0.2, 0.2],
        "size": {"shortest_edge": 256},
        "crop_size": {"height": 224, "width": 224},
        "resample": 2,
    }
    towers = {"vision_cfg": {"image_size": 224, "head_width": 64}, "text_cfg": {"heads": 8, "width": 512}}
    open_clip = {
        "model_cfg": {"embed_dim": 512, "quick_gelu": True, **towers},
        "preprocess_cfg": {"mean": [0.5] * 3, "resize_mode": "squash", "fill_color": 3},
    }
    seeds = [hugging_face] if layout == "hugging_face" else [open_clip, towers]
    name = "config.json" if layout == "hugging_face" else "open_clip_config.json"
    odd = st.sampled_from(ODD).map(lambda value: json.dumps({**images, "image_std": value}).encode())
    beside = odd | json_cases([images]) | st.just(json.dumps(images).encode())

    def read(case: tuple[bytes, bytes]) -> Any:
        (tmp_path / name).write_bytes(case[0])
        (tmp_path / "preprocessor_config.json").write_bytes(case[1])
        declared = read_declared(tmp_path, layout)
        for heads in (declared.text_heads, declared.image_heads, declared.image_head_width):
            assert heads is None or (type(heads) is int and heads > 0)
        Preprocessing.from_dict(declared.pictures.fields)
        return declared

    campaign(f"configurations: {layout}", st.tuples(json_cases(seeds), beside), read, tmp_path)
