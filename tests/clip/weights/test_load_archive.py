"""OpenAI's archives: read whole, never executed, refused where they ask for more."""

from __future__ import annotations

import io
import pickle
import zipfile
from pathlib import Path

import pytest
import torch

from cliptune.clip.weights.archive import is_torchscript, read_torchscript, stated_activation
from cliptune.clip.weights.load import load_clip
from tests.clip.weights.checkpoints import HEAD_WIDTH, openai_tensors, same_weights, save_torchscript


@pytest.fixture(scope="module")
def archive(tiny_clip, tmp_path_factory) -> Path:
    return save_torchscript(openai_tensors(tiny_clip), tmp_path_factory.mktemp("archive") / "ViT-tiny.pt")


def rewritten(archive: Path, target: Path, pickled: bytes, first: bytes | None = None) -> Path:
    """The archive with another data.pkl, and perhaps with other bytes for its first storage."""
    with zipfile.ZipFile(archive) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            if name.endswith("/data.pkl"):
                content = pickled
            elif name.endswith("/data/0") and first is not None:
                content = first
            new.writestr(name, content)
    return target


def data_pickle(archive: Path) -> bytes:
    with zipfile.ZipFile(archive) as old:
        return old.read(next(name for name in old.namelist() if name.endswith("/data.pkl")))


@pytest.mark.parametrize("trace", [False, True], ids=["scripted", "traced"])
def test_vit_archive_gives_the_same_tensors(tiny_clip, tmp_path, trace):
    tensors = openai_tensors(tiny_clip)
    path = save_torchscript(tensors, tmp_path / "ViT-tiny.pt", trace)
    found = read_torchscript(path)
    assert {name for name in found if name not in tensors} == {
        "input_resolution",
        "context_length",
        "vocab_size",
    }
    assert all(torch.equal(found[name], value.half()) for name, value in tensors.items())
    clip = load_clip(path, head_width=HEAD_WIDTH)
    assert same_weights(clip, {name: value.half() for name, value in tensors.items()})
    assert clip.config.activation == "quick_gelu"
    assert clip.origin["activation_from"] == "program of the archive"


def test_resnet_archive_gives_the_same_tensors(tiny_resnet, tmp_path):
    tensors = {
        name: value.half() if value.is_floating_point() else value
        for name, value in openai_tensors(tiny_resnet).items()
    }
    clip = load_clip(save_torchscript(tensors, tmp_path / "RN.pt"), head_width=HEAD_WIDTH)
    assert same_weights(clip, tensors)
    assert clip.config == tiny_resnet.config


def test_sliced_and_shared_storages_are_rebuilt(tmp_path):
    whole = torch.arange(24.0).reshape(4, 6)
    path = save_torchscript(
        {"a.part": whole[1:, 2:5], "b.turned": whole.T, "c.empty": torch.empty(0)}, tmp_path / "x.pt"
    )
    found = read_torchscript(path)
    assert torch.equal(found["a.part"], whole[1:, 2:5].half())
    assert torch.equal(found["b.turned"], whole.T.half())
    assert found["c.empty"].shape == (0,)


def test_state_dict_of_torch_save_is_not_taken_for_a_program(tmp_path):
    torch.save({"a": torch.ones(2)}, tmp_path / "plain.pt")
    assert not is_torchscript(tmp_path / "plain.pt")


def test_code_of_the_archive_is_never_opened(archive, tmp_path):
    target = tmp_path / "broken-code.pt"
    with zipfile.ZipFile(archive) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            new.writestr(name, b"\xff not a program" if "/code/" in name else old.read(name))
    assert read_torchscript(target).keys() == read_torchscript(archive).keys()


class _Runs:
    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def test_pickle_that_calls_a_function_is_refused(archive, tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("here")
    pickled = pickle.dumps(_Runs(exec, f"open({str(victim)!r}, 'w')"), protocol=2)
    path = rewritten(archive, tmp_path / "evil.pt", pickled)
    with pytest.raises(ValueError, match=r"refused: it asks for .*exec\. Only tensors in modules are read"):
        load_clip(path)
    assert victim.read_text() == "here"


@pytest.mark.parametrize(
    "name",
    [
        ("torch", "load"),
        ("torch", "_utils._rebuild_tensor_v2"),
        ("torch.jit._pickle", "build_tensor_from_id"),
        ("collections", "OrderedDict.fromkeys"),
        ("builtins", "getattr"),
    ],
)
def test_only_the_short_list_may_be_named(archive, tmp_path, name):
    stream = io.BytesIO()
    stream.write(b"\x80\x04")
    for part in name:
        stream.write(b"\x8c" + bytes([len(part)]) + part.encode())
    stream.write(b"\x93.")
    path = rewritten(archive, tmp_path / "evil.pt", stream.getvalue())
    with pytest.raises(ValueError, match=f"refused: it asks for {name[0]}.{name[1]}"):
        read_torchscript(path)


def test_tensor_beyond_its_storage_is_refused(archive, tmp_path):
    class Pickler(pickle.Pickler):
        def persistent_id(self, value):
            return ("storage", torch.HalfStorage, "0", "cpu", numbers // 2) if value == "numbers" else None

    with zipfile.ZipFile(archive) as old:
        numbers = next(i.file_size for i in old.infolist() if i.filename.endswith("/data/0"))
    for size, stride, offset in (
        ((numbers,), (1,), 0),
        ((2,), (10**12,), 0),
        ((1,), (1,), -1),
        ((2, 2), (1,), 0),
    ):
        stream = io.BytesIO()
        call = _Runs(torch._utils._rebuild_tensor_v2, "numbers", offset, size, stride, False, None)
        Pickler(stream, protocol=2).dump(call)
        path = rewritten(archive, tmp_path / "evil.pt", stream.getvalue())
        with pytest.raises(ValueError, match="refused: it describes a tensor"):
            read_torchscript(path)


def test_compressed_storage_is_refused(archive, tmp_path):
    target = tmp_path / "compressed.pt"
    with zipfile.ZipFile(archive) as old, zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
    with pytest.raises(ValueError, match="refused: storage 0 is compressed"):
        read_torchscript(target)


def test_modules_that_contain_each_other_are_refused(archive, tmp_path):
    # A module whose attribute "m" is itself.
    pickled = b"\x80\x02c__torch__\nA\n)\x81q\x00}X\x01\x00\x00\x00mh\x00sb."
    path = rewritten(archive, tmp_path / "loop.pt", pickled)
    with pytest.raises(ValueError, match="modules more than 64 deep"):
        read_torchscript(path)


def test_storage_of_another_length_is_refused(archive, tmp_path):
    path = rewritten(archive, tmp_path / "short.pt", data_pickle(archive), first=b"\x00\x00\x00")
    with pytest.raises(ValueError, match=r"storage 0 should have \d+ values of torch.float16 but has 3 bytes"):
        load_clip(path)


def test_truncated_and_altered_archives_are_named(archive, tmp_path):
    whole = archive.read_bytes()
    cut = tmp_path / "cut.pt"
    cut.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"cut.pt is cut off.*Download it again"):
        load_clip(cut)
    altered = tmp_path / "altered.pt"
    middle = len(whole) // 2
    altered.write_bytes(whole[:middle] + bytes([whole[middle] ^ 255]) + whole[middle + 1 :])
    with pytest.raises(ValueError, match=r"altered.pt is damaged \(BadZipFile.*Download it again"):
        load_clip(altered)


@pytest.mark.parametrize("pickled", [b"", b"\x80\x02", b"\x80\x02}.", b"\x80\x02K\x01.", b"nonsense"])
def test_broken_pickle_is_a_sentence(archive, tmp_path, pickled):
    path = rewritten(archive, tmp_path / "broken.pt", pickled)
    with pytest.raises(ValueError, match=r"broken\.pt (is damaged|holds a)"):
        load_clip(path)


@pytest.mark.parametrize("trace", [False, True], ids=["scripted", "traced"])
@pytest.mark.parametrize(
    ("program", "expected"),
    [
        (lambda u: u * torch.sigmoid(1.702 * u), "quick_gelu"),
        (lambda u: torch.nn.functional.gelu(u), "gelu"),
        (lambda u: u + 1, None),
    ],
    ids=["quick_gelu", "gelu", "neither"],
)
def test_program_of_an_archive_tells_the_activation(tmp_path, program, expected, trace):
    path = tmp_path / "program.pt"
    made = torch.jit.trace(program, torch.ones(2)) if trace else torch.jit.script(_scriptable(expected))
    torch.jit.save(made, str(path))
    assert stated_activation(path) == expected


class _Quick(torch.nn.Module):
    def forward(self, u: torch.Tensor) -> torch.Tensor:
        return u * torch.sigmoid(1.702 * u)


class _Other(torch.nn.Module):
    def forward(self, u: torch.Tensor) -> torch.Tensor:
        return u + 1


def _scriptable(activation: str | None) -> torch.nn.Module:
    return {"quick_gelu": _Quick, "gelu": torch.nn.GELU, None: _Other}[activation]()
