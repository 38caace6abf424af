"""One run's folder: what was asked, on what, how it went, what came out. Every file is written atomically."""

from __future__ import annotations

import errno
import json
import os
import time
import weakref
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors import safe_open
from safetensors.torch import save as to_safetensors
from torch import Tensor

from cliptune.files import atomic_write_bytes, atomic_write_json, atomic_write_text, explained
from cliptune.reading import LARGEST_YAML, content_of, json_value, shown, utf8, yaml_value
from cliptune.registry.building import usual_options
from cliptune.runs.environment import environment
from cliptune.runs.file_names import (
    CALIBRATION,
    CONFIG,
    CONFIG_FILE,
    ENVIRONMENT,
    LOG,
    MANIFEST,
    METRICS,
    PREDICTIONS,
    PROMPTS,
    RESULT,
    SPLIT,
    STATE,
    WEIGHTS,
)
from cliptune.runs.jsonable import jsonable
from cliptune.runs.manifest import check_whole, write_result

try:
    import fcntl
except ImportError:  # not a POSIX system: no lock
    fcntl = None  # type: ignore[assignment]

FORMAT = 1
# What file systems answer that have no locks, or none for folders (NFS).
_NO_LOCKS = (errno.EBADF, errno.ENOLCK, errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP)

_OURS = (CONFIG_FILE, ENVIRONMENT, SPLIT, METRICS, PROMPTS, RESULT, MANIFEST, LOG, STATE, CONFIG, WEIGHTS, CALIBRATION)
# What some of its lines hold.
_KINDS = {"method": str, "options": dict, "backbone": dict, "data": dict, "stages": list, "seed": int}
# What is entered into a result by name, by whoever measures it.
_ENTERED = ("evaluations", "targets")
# Lines of every training's configuration.
_LINES = ("method", "options", "backbone", "data", "stages", "seed", "precision", "accumulate", "select", "views")


class RunFolder:
    """The files of one run.

    Args:
        path: the folder; made if it is not there.
        config: the resolved configuration; plain values, see `jsonable`.
        resume: go on with (or return) the run that the folder holds, if its configuration is this one.
        overwrite: remove the run that the folder holds and start anew. Other files in the folder stay.
    Raises: ValueError if the folder holds another run, or this one and neither `resume` nor `overwrite` is set;
        also if the run that it holds is damaged, or another process is working in it; OSError with a sentence if it
        cannot be written.
    """

    def __init__(self, path: str | Path, config: Mapping[str, Any], *, resume: bool = True, overwrite: bool = False):
        self.path = Path(path).expanduser()
        self._lock: int | None = None
        if self.path.exists() and not self.path.is_dir():
            raise ValueError(f"The run folder {self.path} is a file. Give a folder's name.")
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise explained(error, self.path) from error
        self._take()
        try:
            if overwrite:
                self._clear()
            else:
                check_whole(self.path)
            if not overwrite and self._holds(config) and not resume:
                raise ValueError(
                    f"The folder {self.path} already holds this run, and resuming was turned off. "
                    "Choose another folder, or pass overwrite=True to start it anew."
                )
            self._sweep()
            self._write_config(config)
        except Exception:
            self.release()
            raise

    def _write_config(self, config: Mapping[str, Any]) -> None:
        path = self.path / CONFIG_FILE
        if not path.exists():
            atomic_write_text(path, yaml.safe_dump(_with_format(config), sort_keys=False, allow_unicode=True))

    # -- what was asked --------------------------------------------------------------------------------------

    def _holds(self, config: Mapping[str, Any]) -> bool:
        """Whether a run of this configuration is here; False if the folder is free. Raises if it is not free."""
        if not (self.path / CONFIG_FILE).exists():
            strangers = [name for name in _OURS if (self.path / name).exists()]
            if strangers:
                raise ValueError(
                    f"The folder {self.path} holds {', '.join(strangers)} but no {CONFIG_FILE}, so it is not known "
                    "what run they belong to. Choose another folder, or pass overwrite=True to replace them."
                )
            return False
        here, asked = read_config(self.path), _with_format(config)
        if _with_later_options(here) == asked:
            return True
        raise ValueError(
            f"The folder {self.path} holds another run; it differs in {differences(here, asked)}. "
            "Choose another folder, repeat that run's settings to resume it, or pass overwrite=True (--overwrite) to "
            "replace it."
        )

    def _clear(self) -> None:
        # The configuration goes last: if this is interrupted, what is left is still known to be a run.
        for name in sorted(_OURS, key=lambda name: name == CONFIG_FILE):
            (self.path / name).unlink(missing_ok=True)
        for predictions in (self.path / PREDICTIONS).glob("*.safetensors"):
            predictions.unlink(missing_ok=True)

    def _take(self) -> None:
        """Keep other processes out. The system lets go when this process ends, however it ends."""
        self._lock = _lock(self.path)
        _holders.add(self)

    def release(self) -> None:
        """Let other processes work in the folder."""
        if self._lock is not None:
            with suppress(OSError):  # there are file systems without locks
                fcntl.flock(self._lock, fcntl.LOCK_UN)
            self.leave_to_parent()

    def leave_to_parent(self) -> None:
        """In a forked process: the lock is its parent's."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def __getstate__(self) -> dict[str, Any]:
        # Another process that is told of the folder does not hold the lock.
        return {**self.__dict__, "_lock": None}

    def _sweep(self) -> None:
        """Remove the unfinished files of a process that was killed while writing."""
        for name in _OURS:
            path = self.path / name
            for unfinished in path.parent.glob(f".{path.name}.*"):
                unfinished.unlink(missing_ok=True)
        for unfinished in (self.path / PREDICTIONS).glob(".*"):
            unfinished.unlink(missing_ok=True)

    # -- how it went -----------------------------------------------------------------------------------------

    def write_environment(self, device: torch.device, **more: Any) -> list[str]:
        """Write `env.json` unless the run has one; what differs from the one it has, as sentences.

        Args: more: entered beside what `environment` finds.
        """
        now = environment(device) | more
        path = self.path / ENVIRONMENT
        if not path.exists():
            atomic_write_json(path, now)
            return []
        before = _read_json(path, "Remove that file; it only says on what machine the run began.") or {}
        return [
            f"This run started with {key} {before.get(key)} and goes on with {now[key]}: "
            "the numbers may differ in their last digits from an uninterrupted run."
            for key in ("torch", "device", "threads", "products")
            if key in now and before.get(key, now[key]) != now[key]
        ]

    def write_split(self, description: Mapping[str, Any]) -> None:
        atomic_write_json(self.path / SPLIT, jsonable(description))

    def append_metrics(self, values: Mapping[str, Any]) -> int:
        """Add a line to `metrics.jsonl`; the file's size in bytes afterwards, for `truncate_metrics`."""
        return self._append(METRICS, json.dumps(jsonable(values)) + "\n", durable=True)

    def truncate_metrics(self, size: int) -> None:
        """Drop lines (or a torn half of one) that were written after the state that is resumed from."""
        path = self.path / METRICS
        if path.exists() and path.stat().st_size > size:
            os.truncate(path, size)

    def append_prompts(self, line: Mapping[str, Any]) -> int:
        """Add a line to `prompts.jsonl`; the file's size in bytes afterwards, for `truncate_prompts`."""
        return self._append(PROMPTS, json.dumps(line) + "\n", durable=True)

    def truncate_prompts(self, size: int) -> None:
        """As `truncate_metrics`; without a line there is no file."""
        path = self.path / PROMPTS
        if path.exists() and not size:
            path.unlink()
        elif path.exists() and path.stat().st_size > size:
            os.truncate(path, size)

    def metrics(self) -> list[dict[str, Any]]:
        return read_metrics(self.path)

    def log(self, line: str) -> None:
        self._append(LOG, f"{time.strftime('%Y-%m-%d %H:%M:%S')} {line}\n")

    def save_state(self, tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> None:
        """Replace the saved state. Tensors and plain values share one file, so that they can never disagree."""
        # safetensors wants contiguous tensors that share no storage.
        copies = {name: t.detach().cpu().clone(memory_format=torch.contiguous_format) for name, t in tensors.items()}
        content = to_safetensors(copies, metadata={"values": json.dumps(jsonable(values))})
        atomic_write_bytes(self.path / STATE, content)

    def load_state(self) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """The saved state, or None if there is none. Raises: ValueError if the file is damaged."""
        path = self.path / STATE
        if not path.exists():
            return None
        try:
            with safe_open(str(path), framework="pt") as file:
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
                values = json_value(file.metadata()["values"])
                return tensors, values
        except OSError:
            raise
        except Exception as error:  # safetensors fails in its own ways, and some of Python's
            raise ValueError(
                f"The saved state {path} cannot be read ({shown(str(error), 200)}). Start the run anew with "
                "overwrite=True."
            ) from error

    # -- what came out ---------------------------------------------------------------------------------------

    def result(self) -> dict[str, Any] | None:
        """`result.json`, or None while the run is not finished."""
        return read_result(self.path)

    def write_result(self, result: MutableMapping[str, Any]) -> None:
        """Write `result.json`, first or anew, with the manifest that vouches for it; see `manifest.write_result`.

        What another process has measured and entered meanwhile stays in it.
        """
        with nullcontext() if self._lock is not None else held(self.path):
            there = read_result(self.path) or {}
            entered = {name: {**there[name], **(result.get(name) or {})} for name in _ENTERED if there.get(name)}
            write_result(self.path, {**result, **entered} if entered else result)

    def _append(self, name: str, text: str, durable: bool = False) -> int:
        path = self.path / name
        try:
            handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
            try:
                size = os.fstat(handle).st_size
                content = memoryview(text.encode("utf-8"))
                try:
                    while content:
                        content = content[os.write(handle, content) :]
                    if durable:
                        os.fsync(handle)
                except OSError:
                    os.ftruncate(handle, size)
                    raise
                return os.fstat(handle).st_size
            finally:
                os.close(handle)
        except OSError as error:
            raise explained(error, path) from error


@contextmanager
def held(folder: str | Path, wait: float = 60.0) -> Iterator[None]:
    """Keep other processes out of a run folder for a moment.

    Args:
        wait: seconds to wait for one that works in it.
    Raises: ValueError if it is still working then.
    """
    path, until = Path(folder).expanduser(), time.monotonic() + wait
    lock = None
    while True:
        try:
            lock = _lock(path)
            break
        except ValueError:
            if time.monotonic() > until:
                raise
            time.sleep(0.05)
    try:
        yield
    finally:
        if lock is not None:
            os.close(lock)


def _lock(path: Path) -> int | None:
    """A lock on a folder, let go when it is closed; None where there are no locks.

    Raises: ValueError if another process has it.
    """
    if fcntl is None:
        return None
    lock = None
    try:
        lock = os.open(path, os.O_RDONLY)
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return lock
    except OSError as error:
        if lock is not None:
            os.close(lock)
        if isinstance(error, BlockingIOError):
            raise ValueError(
                f"Another process is working in the run folder {path}. Wait for it to end, or take another folder."
            ) from None
        # Where there are no locks nobody is kept out, but the run can be made.
        if error.errno not in _NO_LOCKS:
            raise explained(error, path) from error
        return None


# Whoever may hold the lock of a folder.
_holders: weakref.WeakSet[RunFolder] = weakref.WeakSet()


def _leave_to_parent() -> None:
    """A forked process, such as one that reads images, has its parent's locks, which would outlive the parent in it."""
    for folder in list(_holders):
        folder.leave_to_parent()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_to_parent)


def read_config(folder: str | Path) -> dict[str, Any]:
    """A run folder's `config.yaml`.

    Raises: FileNotFoundError if there is none; ValueError if it cannot be read, is of another format version, or lacks
        what every training writes there.
    """
    path = Path(folder).expanduser() / CONFIG_FILE
    if not path.exists():
        raise FileNotFoundError(f"{folder} is not a run folder: it holds no {CONFIG_FILE}.")
    try:
        config: dict[str, Any] = yaml_value(content_of(path, LARGEST_YAML))
    except ValueError as error:
        raise ValueError(
            f"{path} is not readable YAML: {error}. Put the file back, or make the run anew in another folder."
        ) from error
    version = config.get("format") if isinstance(config, dict) else None
    if version != FORMAT:
        raise ValueError(
            f"{path} is of run-folder format {shown(repr(version))}; this version of cliptune reads format {FORMAT}. "
            "Use the version that wrote it, or run it anew in another folder."
        )
    missing = [] if "converted_from" in config else [name for name in _LINES if name not in config]
    if missing:
        raise ValueError(
            f"{path} is not complete: it lacks {', '.join(missing)}, which decide the run's numbers, so nothing stands "
            "in for them. Put the whole file back, or make the run anew in another folder."
        )
    odd = [name for name, kind in _KINDS.items() if name in config and not isinstance(config[name], kind)]
    if odd:
        raise ValueError(
            f"{path} was edited: {', '.join(odd)} is not what a run writes there. Put the file back, or make the run "
            "anew in another folder."
        )
    return config


def read_result(folder: str | Path) -> dict[str, Any] | None:
    """A run folder's `result.json`, or None if the run is not finished. Raises: ValueError if it is damaged."""
    return _read_json(
        Path(folder).expanduser() / RESULT,
        "Remove that file and give the run's command once more: it goes on from the saved state and scores anew.",
    )


def read_images(folder: str | Path) -> dict[str, Any] | None:
    """A run folder's `split.json`, the images that it learned from; None if there is none yet. Raises: ValueError if it
    is damaged.
    """
    path = Path(folder).expanduser() / SPLIT
    advice = "It says which images the run learned from. Give another folder, or make the run anew with overwrite=True."
    split = _read_json(path, advice)
    if split is not None and not _lists_images(split.get("train")):
        raise ValueError(f"{path} does not list the training images as [name, label, hash] each. {advice}")
    return split


def _lists_images(train: Any) -> bool:
    return isinstance(train, list) and all(
        isinstance(one, list) and len(one) == 3 and isinstance(one[0], str) for one in train
    )


def _read_json(path: Path, advice: str) -> dict[str, Any] | None:
    """What a file holds, None if it is not there. Raises: ValueError with the advice if it is damaged."""
    if not path.exists():
        return None
    try:
        content: dict[str, Any] = json_value(content_of(path))
    except ValueError as error:
        raise ValueError(f"{path} is not readable JSON ({error}). {advice}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds a {type(content).__name__} where an object was expected. {advice}")
    return content


def read_metrics(folder: str | Path) -> list[dict[str, Any]]:
    """The lines of a run folder's `metrics.jsonl`, one per epoch; empty if there is none yet.

    Raises: ValueError if a line is no JSON object.
    """
    return read_lines(Path(folder).expanduser() / METRICS)


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The objects in a file of one JSON object per line; none if there is no such file. Raises: as `read_metrics`."""
    if not path.exists():
        return []
    try:
        lines = [json_value(line) for line in utf8(content_of(path)).split("\n") if line.strip()]
    except ValueError as error:
        raise ValueError(
            f"{path} holds a line that is no JSON ({error}). Make the run anew in another folder."
        ) from error
    if not all(isinstance(line, dict) for line in lines):
        raise ValueError(f"{path} holds a line that is no JSON object. Make the run anew in another folder.")
    return lines


def _with_format(config: Mapping[str, Any]) -> dict[str, Any]:
    return {"format": FORMAT, **jsonable(config)}


_IN_WORDS = {
    "data.split_sha256": "the pictures, or how they are split",
    "data.images_sha256": "the content of the pictures that are learned from",
}


def _with_later_options(config: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration with the options that its method got since it was written, whose defaults change nothing."""
    given = config.get("options")
    if not isinstance(given, dict) or not isinstance(config.get("method"), str):
        return dict(config)
    return {**config, "options": {**jsonable(usual_options(config["method"])), **given}}


def differences(here: Any, asked: Any, limit: int = 4) -> str:
    """The first few places where two plain values differ, in words."""
    found: list[str] = []

    def walk(a: Any, b: Any, name: str) -> None:
        if isinstance(a, dict) and isinstance(b, dict):
            for key in dict.fromkeys((*a, *b)):
                walk(a.get(key), b.get(key), f"{name}.{key}" if name else key)
        elif isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
            for index, (left, right) in enumerate(zip(a, b, strict=True)):
                walk(left, right, f"{name}[{index}]")
        elif a != b:
            found.append(_IN_WORDS.get(name) or f"{name} ({_short(a)} there, {_short(b)} here)")

    walk(here, asked, "")
    more = f" and {len(found) - limit} more places" if len(found) > limit else ""
    return ", ".join(found[:limit]) + more


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "…"
