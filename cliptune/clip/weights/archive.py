"""Reading TorchScript archives, the form in which OpenAI published CLIP, without executing anything in them.

Such a file is a zip: `<root>/data.pkl` describes a tree of modules, `<root>/data/<n>` are the numbers,
`<root>/code/` is a program. The program is never opened. The pickle may name module classes, which become
inert holders, and the few functions of a short list, which are replaced by our own; anything else is refused.
"""

from __future__ import annotations

import io
import pickle
import struct
import zipfile
import zlib
from collections import OrderedDict
from collections.abc import Sequence
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from cliptune.reading import check_pickle, shown

_DTYPES = {
    f"{name}Storage": dtype
    for name, dtype in {
        "Double": torch.float64,
        "Float": torch.float32,
        "Half": torch.float16,
        "BFloat16": torch.bfloat16,
        "Long": torch.int64,
        "Int": torch.int32,
        "Short": torch.int16,
        "Char": torch.int8,
        "Byte": torch.uint8,
        "Bool": torch.bool,
    }.items()
}
_LISTS = {"build_intlist", "build_doublelist", "build_boollist", "build_tensorlist"}
# Far above any CLIP (a few thousand tensors, a pickle below a megabyte); they bound what a bad file can cost.
_MOST_ATTRIBUTES = 200_000
_DEEPEST = 64
_LARGEST_PICKLE = 1 << 26
# 1.702 as a number of each floating type, as it lies in an archive.
_QUICK_FACTORS = {struct.pack(kind, 1.702) for kind in ("<d", "<f", "<e")}


def is_zip(path: Path) -> bool:
    """Whether the file has the end of a zip."""
    try:
        return zipfile.is_zipfile(path)
    except zipfile.BadZipFile:  # an end that speaks of other disks
        return False


def is_torchscript(path: Path) -> bool:
    """Whether the file is a zip that holds a program beside its data, as `torch.jit.save` writes it."""
    if not is_zip(path):
        return False
    try:
        with zipfile.ZipFile(path) as archive:
            root = _root(archive)
            return root is not None and any(
                name.startswith(f"{root}code/") or name == f"{root}constants.pkl" for name in archive.namelist()
            )
    except _DAMAGE:  # not for this reader to say
        return False


def read_torchscript(path: Path) -> dict[str, Tensor]:
    """Tensors of the module tree by dotted name, on the CPU, in the precision of the file.

    Raises: ValueError with a sentence if the file is damaged or asks for anything but tensors in modules.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            root = _root(archive) or ""
            if archive.getinfo(f"{root}data.pkl").file_size > _LARGEST_PICKLE:
                raise _Refusal(f"its data.pkl is above {_LARGEST_PICKLE >> 20} MiB, which no CLIP needs")
            with archive.open(f"{root}data.pkl") as stream:
                content = stream.read()
            check_pickle(content)
            tree = _Reader(io.BytesIO(content), archive, root).load()
    except _Refusal as refusal:
        raise ValueError(
            f"{path} was refused: {refusal}. Only tensors in modules are read. Get the file from its publisher again."
        ) from refusal
    except _DAMAGE as error:
        reason = shown(f"{type(error).__name__}: {error}", 200)
        raise ValueError(f"{path} is damaged ({reason}). Download it again.") from error
    return _flatten(tree, path)


def stated_activation(path: Path) -> str | None:
    """The activation that the program of an archive computes, read as text and never run; None if it does not say.

    QuickGELU is known by its factor 1.702, which scripting writes into the code and tracing keeps among the constants.
    """
    try:
        return _stated_activation(path)
    except _DAMAGE:  # what cannot be read states nothing
        return None


def _stated_activation(path: Path) -> str | None:
    quick = gelu = False
    with zipfile.ZipFile(path) as archive:
        root = _root(archive) or ""
        for entry in archive.infolist():
            if entry.file_size > _LARGEST_PICKLE:
                continue
            if entry.filename.startswith(f"{root}code/") and entry.filename.endswith(".py"):
                code = archive.read(entry)
                quick |= b"1.702" in code
                gelu |= b"torch.gelu(" in code
            elif entry.filename.startswith(f"{root}constants/"):
                quick |= archive.read(entry) in _QUICK_FACTORS
    return None if quick == gelu else "quick_gelu" if quick else "gelu"


class _Refusal(Exception):
    """The archive asks for something that a CLIP does not need."""


# What zipfile, zlib, pickle and torch raise on bytes that are not what they should be.
_DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    pickle.UnpicklingError,
    EOFError,
    LookupError,
    TypeError,
    AttributeError,
    ValueError,
    ArithmeticError,
    RuntimeError,
    OSError,
    struct.error,
    MemoryError,
)


class _Module:
    """Stands for any module class of the archive: keeps its attributes, does nothing."""

    def __init__(self) -> None:
        self.attributes: dict[str, Any] = {}

    def __setstate__(self, state: Any) -> None:
        if not isinstance(state, dict):
            raise _Refusal("a module has a state that is not a dictionary")
        self.attributes = state


class _Storage(NamedTuple):
    dtype: torch.dtype
    numbers: Tensor


class _Reader(pickle.Unpickler):
    def __init__(self, stream: Any, archive: zipfile.ZipFile, root: str) -> None:
        super().__init__(stream, encoding="utf-8")
        self._archive, self._root = archive, root
        self._storages: dict[str, _Storage] = {}

    def find_class(self, module: str, name: str) -> Any:
        if module == "__torch__" or module.startswith("__torch__."):
            return _Module
        if module == "torch" and name in _DTYPES:
            return _DTYPES[name]
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _tensor
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if module == "torch.jit._pickle" and name in _LISTS:
            return list
        if (module, name) == ("torch.jit._pickle", "restore_type_tag"):
            return _untagged
        if (module, name) == ("torch", "device"):
            return str
        raise _Refusal(f"it asks for {shown(f'{module}.{name}')}")

    def persistent_load(self, reference: Any) -> _Storage:
        kind, dtype, key, _device, count = reference
        if kind != "storage" or not isinstance(dtype, torch.dtype) or not isinstance(count, int):
            raise _Refusal("it refers to something outside of itself")
        if not isinstance(key, str):
            raise _Refusal("it names a storage by something else than a text")
        known = self._storages.get(key)
        if known is None:
            known = self._storages[key] = _Storage(dtype, self._numbers(key, dtype, count))
        if known.dtype != dtype:
            raise _Refusal(f"it reads storage {shown(str(key))} both as {known.dtype} and as {dtype}")
        return known

    def _numbers(self, key: str, dtype: torch.dtype, count: int) -> Tensor:
        entry = self._archive.getinfo(f"{self._root}data/{key}")
        if entry.compress_type != zipfile.ZIP_STORED:  # torch never compresses; unpacking could fill the memory
            raise _Refusal(f"storage {shown(key)} is compressed")
        if count < 0 or entry.file_size != count * dtype.itemsize:
            raise _Refusal(
                f"storage {shown(key)} should have {count} values of {dtype} but has {entry.file_size} bytes"
            )
        if count == 0:
            return torch.empty(0, dtype=dtype)
        return torch.frombuffer(bytearray(self._archive.read(entry)), dtype=dtype)


def _tensor(storage: _Storage, offset: int, size: Sequence[int], stride: Sequence[int], *_: Any) -> Tensor:
    if not isinstance(storage, _Storage) or len(size) != len(stride):
        raise _Refusal("it describes a tensor without a storage, or with unequal size and stride")
    if any(type(n) is not int or n < 0 for n in (offset, *size, *stride)):
        raise _Refusal("it describes a tensor whose size or place are no whole numbers from 0")
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    if prod(size) and (last >= len(storage.numbers) or prod(size) > len(storage.numbers)):
        raise _Refusal(f"it describes a tensor of size {shown(str(tuple(size)))} beyond its storage")
    return storage.numbers.as_strided(tuple(size), tuple(stride), offset)


def _untagged(value: Any, _type: Any) -> Any:
    return value


def _root(archive: zipfile.ZipFile) -> str | None:
    """The one folder of the archive, with its slash; its name is up to whoever wrote the file."""
    roots = [name.removesuffix("data.pkl") for name in archive.namelist() if name.endswith("/data.pkl")]
    return min(roots, key=len) if roots else None


def _flatten(tree: Any, path: Path) -> dict[str, Tensor]:
    if not isinstance(tree, _Module):
        raise ValueError(f"{path} holds a {type(tree).__name__} where a module was expected, so it is not a CLIP.")
    tensors: dict[str, Tensor] = {}
    waiting: list[tuple[str, Any]] = [("", tree)]
    seen = 0
    while waiting:
        prefix, module = waiting.pop()
        for name, value in module.attributes.items():
            seen += 1
            if seen > _MOST_ATTRIBUTES or prefix.count(".") > _DEEPEST:
                raise ValueError(
                    f"{path} was refused: it holds more than {_MOST_ATTRIBUTES} attributes, or modules more than "
                    f"{_DEEPEST} deep, as when they contain each other. No CLIP does."
                )
            if isinstance(value, Tensor):
                tensors[f"{prefix}{name}"] = value
            elif isinstance(value, _Module):
                waiting.append((f"{prefix}{name}.", value))
    return tensors
