"""What a frozen image tower is known by, and how it is run so that a picture has one embedding whatever it is among.

Matrix products round differently with the number of rows, with threads, and with a row's place among them. So pictures
pass in groups of a fixed number, the last one filled up, and each group is computed by one thread (several groups side
by side on the CPU). With that, the embedding of a picture depends on the picture, the tower and the kind of machine
alone.
Where a row's place within a group still matters, which is tried before, the groups are of one picture.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import inspect
import json
import platform
import sys
import weakref
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache, lru_cache, partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

from cliptune.version import __version__

if TYPE_CHECKING:
    from cliptune.clip.model import CLIP

GROUPS = {"cpu": 8}
GROUP = 64
"""Pictures that pass a tower together, by device; on others than those named, so many."""
# Whatever of the package turns a picture into an embedding: a change of its code is another tower.
_CODE = (
    *("cliptune.clip.towers", "cliptune.clip.foreign", "cliptune.features.tower"),
    *("cliptune.data.images", "cliptune.data.transforms", "cliptune.preprocessing"),
)
_LIBRARIES = ("torch", "torchvision", "pillow")
_OF_TORCH = vars(nn.Module()).keys()
_PLAIN = (bool, int, float, str, type(None), torch.dtype)


def identity(clip: CLIP) -> tuple[str, dict[str, Any]]:
    """Hex fingerprint of everything that decides an embedding's bits, but for the picture and how many pass together;
    and the same for people.
    """
    described = {
        "backbone": clip.name,
        "weights_sha256": _Weights.of(clip.image).sha256(),
        "type": str(next(clip.image.parameters()).dtype).removeprefix("torch."),
        "structure": hashlib.sha256(json.dumps(_structure(clip)).encode()).hexdigest()[:16],
        "code": _code(),
        "machine": _machine(clip.device),
        "libraries": {name: _version(name) for name in _LIBRARIES} | _libraries_of(clip.image),
        "cliptune": __version__,
    }
    content = {name: value for name, value in described.items() if name not in ("backbone", "cliptune")}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:32], described


@torch.no_grad()
def encoded(clip: CLIP, batches: Iterable[Tensor], group: int) -> Iterator[Tensor]:
    """Pictures (b, 3, R, R) in [0, 1] → embeddings (b, D) float32, batch by batch.

    Args:
        group: pictures that pass together; a batch's last group is filled up with zeros.
    """
    one = partial(_group, clip)
    with (
        _one_thread_each(clip.device) as threads,
        ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool,
    ):
        for images in batches:
            pieces = list(images.split(group))
            short = group - len(pieces[-1])
            if short:
                pieces[-1] = torch.cat([pieces[-1], images.new_zeros(short, *images.shape[1:])])
            done = map(one, pieces) if threads == 1 else pool.map(one, pieces)
            yield torch.cat(list(done))[: len(images)]


def group_of(clip: CLIP) -> int:
    """How many pictures pass together: as many as the device likes, or 1 if a picture's place among them matters."""
    weights = _Weights.of(clip.image)
    if weights.group is None:
        wanted = GROUPS.get(clip.device.type, GROUP)
        side = clip.image.resolution
        one = torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(1)).to(clip.device)
        rows = next(encoded(clip, [one.expand(wanted, -1, -1, -1).contiguous()], wanted))
        weights.group = wanted if bool((rows == rows[:1]).all()) else 1
    return weights.group


@torch.no_grad()  # which each thread has to be told
def _group(clip: CLIP, images: Tensor) -> Tensor:
    return clip.encode_image(clip.normalise(images)[:, None])[:, 0]


@contextmanager
def _one_thread_each(device: torch.device) -> Iterator[int]:
    """How many groups are computed side by side, each by one thread."""
    if device.type != "cpu":
        yield 1
        return
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield threads
    finally:
        torch.set_num_threads(threads)


class _Weights:
    """The tensors of a tower, whose hash is computed anew only when one of them is another or has changed."""

    _all: ClassVar[weakref.WeakKeyDictionary[nn.Module, _Weights]] = weakref.WeakKeyDictionary()

    def __init__(self, tower: nn.Module, state: tuple[Any, ...]) -> None:
        self._tower, self._state = weakref.ref(tower), state
        self._sha256: str | None = None
        self.group: int | None = None

    @classmethod
    def of(cls, tower: nn.Module) -> _Weights:
        state = tuple(_state(name, tensor) for name, tensor in _tensors(tower))
        found = cls._all.get(tower)
        if found is None or found._state != state:
            found = cls._all[tower] = cls(tower, state)
        return found

    def sha256(self) -> str:
        tower = self._tower()
        if self._sha256 is None and tower is not None:
            digest = hashlib.sha256()
            for name, tensor in _tensors(tower):
                digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
                digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
            self._sha256 = digest.hexdigest()
        assert self._sha256 is not None
        return self._sha256


def _tensors(tower: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from tower.named_parameters()
    yield from tower.named_buffers()


def _state(name: str, tensor: Tensor) -> tuple[Any, ...]:
    """Changes with the tensor. What is written past its counter of versions, through `.data`, the sum tells."""
    version = None if tensor.is_inference() else tensor._version
    total = float(tensor.detach().sum()) if tensor.numel() and not tensor.is_complex() else 0.0
    total = total if total == total else 0.0  # not a number is never equal to itself
    return name, tensor.data_ptr(), version, tensor.dtype, tensor.device, tuple(tensor.shape), total


def _structure(clip: CLIP) -> list[Any]:
    """What no tensor tells: classes, numbers, words and functions of the tower's parts, and how pictures are prepared.

    Only how they are normalised; the rest belongs to the view of a picture.
    """
    parts: list[Any] = [type(clip).__qualname__, list(clip.mean), list(clip.std)]
    for name, module in clip.image.named_modules():
        values = {key: _plain(value) for key, value in vars(module).items() if key not in _OF_TORCH}
        parts.append([name, f"{type(module).__module__}.{type(module).__qualname__}", values])
    return parts


def _plain(value: Any) -> Any:
    if isinstance(value, _PLAIN):
        return repr(value)
    if isinstance(value, (tuple, list)):
        return [_plain(one) for one in value]
    if isinstance(value, partial):
        return [_plain(value.func), _plain(value.args), {key: _plain(one) for key, one in value.keywords.items()}]
    return getattr(value, "__qualname__", type(value).__qualname__)


@lru_cache(maxsize=1)
def _code() -> str:
    digest = hashlib.sha256()
    for name in _CODE:
        module = import_module(name)
        paths = [Path(inspect.getfile(module))]
        for path in sorted(paths[0].parent.glob("*.py")) if hasattr(module, "__path__") else paths:
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


@cache
def _version(package: str) -> str:
    """Looked up in the folders of all packages, which takes as long as ten lookups of a picture."""
    return importlib.metadata.version(package)


def _sha256_of(path: str) -> str:
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()[:16]


def _libraries_of(tower: nn.Module) -> dict[str, str]:
    """Versions of what else the tower's classes come from; of code in no package, the hash of its file."""
    found = {}
    for name in sorted({type(module).__module__ for module in tower.modules()}):
        top = name.partition(".")[0]
        if top in ("torch", "cliptune") or top in found:
            continue
        try:
            found[top] = _version(top)
        except importlib.metadata.PackageNotFoundError:
            module = sys.modules.get(name)
            path = getattr(module, "__file__", None)
            version = getattr(sys.modules.get(top), "__version__", None)
            found[name] = str(version or (_sha256_of(path) if path else ""))
    return found


def _machine(device: torch.device) -> str:
    """What decides how a device rounds, but for its threads; a process may change the last of it at any time."""
    return f"{_device(device)}, float32 products {torch.get_float32_matmul_precision()}"


def _device(device: torch.device) -> str:
    if device.type == "cuda":
        major, minor = torch.cuda.get_device_capability(device)
        narrow = (torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32)
        return f"{torch.cuda.get_device_name(device)}, {major}.{minor}, tf32 {narrow}, cuda {torch.version.cuda}"
    if device.type != "cpu":
        return f"{device.type}, {platform.machine()}, {platform.platform()}"
    return f"{platform.machine()}, {torch.backends.cpu.get_cpu_capability()}, {_processor()}"


@lru_cache(maxsize=1)
def _processor() -> str:
    """Model and abilities of the processor, by which matrix libraries choose their kernels."""
    try:
        lines = Path("/proc/cpuinfo").read_text(errors="replace").split("\n\n")[0].splitlines()
    except OSError:
        return platform.processor()
    told = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    able = told.get("flags") or told.get("Features") or ""
    named = [told.get(key, "") for key in ("vendor_id", "cpu family", "model", "model name")]
    return f"{' '.join(named).strip()}, {hashlib.sha256(able.encode()).hexdigest()[:8]}"
