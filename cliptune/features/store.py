"""A folder of embeddings that runs share, also several processes and nodes at once on one file system.

No file is ever changed: a shard is written beside its place, flushed and renamed, and removed as a whole. So there are
no locks, and a process that is killed at any moment costs the others nothing, and itself only what it had not handed
over.
"""

from __future__ import annotations

import os
import shutil
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cliptune.features.shard import KEY, SUFFIX, DamagedShard, Keys, Rows, Shard, open_shard, write_shard
from cliptune.files import atomic_write_json
from cliptune.reading import content_of, json_value

LIMIT = 10 * 2**30
"""Bytes that a store may hold, unless it is said otherwise: five million pictures at D = 512."""
FREE = 2**30
"""Bytes that are left free on the disk."""
ROOM = 0.9
"""Share of the limit down to which a store is emptied where it is full, so that not every shard empties it anew."""
IN_USE = 600.0
"""Seconds after its last use for which only `clear` removes a shard: on a network file system, a map of a file that
another node removes would end the process that reads it."""
SMALL, MANY = 1024, 32
"""Shards of fewer rows are small; of so many small ones that are not in use, one is made."""
ABANDONED = 86_400.0
"""Seconds after which a temporary file is what a killed process left."""
DESCRIPTION = "space.json"


@dataclass
class Space:
    """The embeddings of one tower on one kind of machine.

    Args:
        path: folder, named by the tower's fingerprint.
        described: backbone, weights and so on, for people; and how many pictures pass together.
    """

    path: Path
    described: Mapping[str, Any]
    _shards: dict[str, Shard] = field(default_factory=dict, repr=False)
    _index: _Index | None = field(default=None, repr=False)

    @property
    def name(self) -> str:
        return self.path.name

    def shards(self) -> list[Shard]:
        """Those that are there now. A damaged one is removed, with a warning: its rows are computed again."""
        there = {entry.name for entry in _entries(self.path) if entry.name.endswith(SUFFIX)}
        changed = there != self._shards.keys()
        for name in self._shards.keys() - there:
            del self._shards[name]
        for name in sorted(there - self._shards.keys()):
            with suppress(FileNotFoundError):  # another process has just made room
                try:
                    self._shards[name] = open_shard(self.path / name)
                except DamagedShard as damage:
                    self._drop(self.path / name, damage)
        if changed or self._index is None:
            self._index = _Index(list(self._shards.values()))
        return self._index.shards

    def read(self, keys: Keys) -> tuple[NDArray[np.bool_], Rows | None]:
        """Which of n keys are there, (n,), and rows (n, D) in which the others are 0; None if none is there."""
        found, rows = np.zeros(len(keys), bool), None
        shards = self.shards()
        assert self._index is not None
        where, at = self._index.look_up(keys)
        for number, wanted in _by_shard(where):
            try:
                _touch(shards[number].path)
                some = shards[number].rows(at[wanted])
            except FileNotFoundError:
                continue
            except DamagedShard as damage:
                self._drop(shards[number].path, damage)
                continue
            if rows is None:
                rows = np.zeros((len(keys), some.shape[1]), np.float32)
            rows[wanted], found[wanted] = some, True
        return found, rows

    def _drop(self, path: Path, damage: DamagedShard) -> None:
        self._shards.pop(path.name, None)
        self._index = None
        with suppress(OSError):
            path.unlink()
        _warn(f"Stored features: {path} is damaged ({damage}). It is removed, and what it held is computed again.")


class FeatureStore:
    """Embeddings on disk, by tower and picture.

    Args:
        folder: made when something is stored.
        limit_bytes: most that all files together may hold, ≥ 0. What was not used for longest makes room.
        free_bytes: that are left free on the disk.
        in_use: seconds, see `IN_USE`.

    Attributes:
        complaint: why something could not be stored, a sentence; None if all was.
    """

    def __init__(
        self, folder: str | Path, limit_bytes: int = LIMIT, *, free_bytes: int = FREE, in_use: float = IN_USE
    ) -> None:
        if limit_bytes < 0:
            raise ValueError(f"FeatureStore: limit_bytes must be 0 or more, got {limit_bytes}.")
        self.folder = Path(folder)
        self.limit_bytes, self.free_bytes, self.in_use = limit_bytes, free_bytes, in_use
        self.complaint: str | None = None
        self._spaces: dict[str, Space] = {}

    def space(self, name: str) -> Space:
        """Of a tower, by its fingerprint; there need not be anything in it, and then it is not described."""
        if name not in self._spaces:
            self._spaces[name] = Space(self.folder / name, _description(self.folder / name))
        return self._spaces[name]

    def spaces(self) -> list[Space]:
        """Those with a folder, the last used first; what is not one of ours is passed over."""
        paths = [Path(entry.path) for entry in _entries(self.folder)]
        found = [Space(path, described) for path in paths if (described := _description(path))]
        return sorted(found, key=lambda space: -last_used(space))

    def add(self, space: Space, keys: Keys, rows: Rows) -> bool:
        """Store rows (n, D) under keys (n, 32), if there is room. What hinders it is a `complaint`, never an error."""
        if not len(keys):
            return True
        try:
            if not self._make_room(len(keys) * (KEY + 4 + 4 * rows.shape[1]) + 128):
                return False
            if not _description(space.path):
                atomic_write_json(space.path / DESCRIPTION, dict(space.described))
            write_shard(space.path, keys, rows)
            self._merge(space)
        except OSError as error:
            self._complain(f"could not be written: {error}")
            return False
        return True

    def clear(self, spaces: Sequence[Space] | None = None, *, unused_for: float = 0.0) -> int:
        """Remove shards of these spaces (None: of all) that were not used for so many seconds.

        Returns: bytes that were freed.
        """
        freed, now = 0, time.time()
        for space in self.spaces() if spaces is None else spaces:
            for entry in _entries(space.path):
                stat = _stat(entry)
                if stat is not None and entry.name.endswith(SUFFIX) and now - stat.st_mtime >= unused_for:
                    freed += stat.st_size
                    _remove(Path(entry.path))
            if not any(entry.name.endswith(SUFFIX) for entry in _entries(space.path)):
                shutil.rmtree(space.path, ignore_errors=True)
        with suppress(OSError):
            self.folder.rmdir()  # where nothing is left
        return freed

    def bytes(self) -> int:
        """That all files hold."""
        return sum(stat.st_size for _, stat in self._files())

    def _files(self) -> Iterator[tuple[Path, os.stat_result]]:
        for folder in _entries(self.folder):
            for entry in _entries(Path(folder.path)):
                stat = _stat(entry)
                if stat is not None:
                    yield Path(entry.path), stat

    def _make_room(self, wanted: int) -> bool:
        """Whether `wanted` more bytes fit, after removing what was not used for longest where they do not."""
        files, now = list(self._files()), time.time()
        for path, stat in files:
            if path.name.startswith(".") and now - stat.st_mtime > ABANDONED:
                _remove(path)
        held = sum(stat.st_size for _, stat in files)
        if held + wanted > self.limit_bytes:
            idle = [(stat.st_mtime, path, stat.st_size) for path, stat in files if path.name.endswith(SUFFIX)]
            for used, path, size in sorted(idle):
                if held + wanted <= ROOM * self.limit_bytes or now - used < self.in_use:
                    break
                _remove(path)
                held -= size
        if held + wanted > self.limit_bytes:
            self._complain(f"are at their limit of {self.limit_bytes:,} bytes, all of them in use")
            return False
        there = next(path for path in (self.folder, *self.folder.absolute().parents) if path.exists())
        if shutil.disk_usage(there).free - wanted < self.free_bytes:
            self._complain(f"leave {self.free_bytes:,} bytes of the disk free, and there are no more")
            return False
        return True

    def _merge(self, space: Space) -> None:
        """Make one shard of many small ones that nobody uses now."""
        now, small = time.time(), []
        for shard in space.shards():
            with suppress(FileNotFoundError):
                if len(shard) < SMALL and now - shard.path.stat().st_mtime >= self.in_use:
                    small.append(shard)
        if len(small) < MANY:
            return
        kept: dict[bytes, NDArray[np.float32]] = {}
        for shard in small:
            with suppress(FileNotFoundError, DamagedShard):  # what is damaged is told when it is read
                rows = shard.rows(np.arange(len(shard)))
                kept.update((key.tobytes(), row) for key, row in zip(shard.keys, rows, strict=True))
        keys = np.frombuffer(b"".join(kept), np.uint8).reshape(-1, KEY)
        write_shard(space.path, keys, np.stack(list(kept.values())))
        for shard in small:
            _remove(shard.path)

    def _complain(self, why: str) -> None:
        if self.complaint is None:
            self.complaint = f"Stored features in {self.folder} {why}. What is new is not stored."
            _warn(self.complaint)


class _Index:
    """Where each key lies, over all shards of a space."""

    def __init__(self, shards: list[Shard]) -> None:
        self.shards = shards
        self._keys = np.concatenate([shard.keys for shard in shards]) if shards else np.zeros((0, KEY), np.uint8)
        heads = _heads(self._keys)
        self._order = np.argsort(heads, kind="stable")
        self._sorted = heads[self._order]
        self._shard = np.repeat(np.arange(len(shards)), [len(shard) for shard in shards])
        self._row = np.concatenate([np.arange(len(shard)) for shard in shards]) if shards else np.zeros(0, np.int64)

    def look_up(self, keys: Keys) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Number of the shard and of its row for each key; −1 for one that is not there."""
        where, at = np.full(len(keys), -1), np.full(len(keys), -1)
        if not len(self._keys):
            return where, at
        place = self._order[np.searchsorted(self._sorted, _heads(keys)).clip(max=len(self._keys) - 1)]
        same = (self._keys[place] == keys).all(axis=1)
        where[same], at[same] = self._shard[place[same]], self._row[place[same]]
        return where, at


def _by_shard(where: NDArray[np.int64]) -> Iterator[tuple[int, NDArray[np.int64]]]:
    """Numbers of shards, and the places (m,) of the keys that lie in each, sorted once whatever their number."""
    order = np.argsort(where, kind="stable")
    order = order[np.searchsorted(where[order], 0) :]
    numbers, starts = np.unique(where[order], return_index=True)
    return zip(numbers.tolist(), np.split(order, starts[1:]), strict=True) if len(numbers) else iter(())


def last_used(space: Space) -> float:
    """Seconds since the epoch; 0 for a space without shards."""
    stats = (_stat(entry) for entry in _entries(space.path) if entry.name.endswith(SUFFIX))
    return max((stat.st_mtime for stat in stats if stat is not None), default=0.0)


def _description(path: Path) -> dict[str, Any]:
    """Of a space's folder; empty where there is none, or it cannot be read and is written anew."""
    try:
        described = json_value(content_of(path / DESCRIPTION))
    except (ValueError, OSError):
        return {}
    return described if isinstance(described, dict) else {}


def _heads(keys: Keys) -> NDArray[np.uint64]:
    """The first 8 bytes of each key as a number."""
    return np.ascontiguousarray(keys[:, :8]).view(np.uint64)[:, 0]


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    """What a folder holds; nothing where there is none."""
    try:
        with os.scandir(folder) as found:
            return list(found)
    except OSError:
        return []


def _stat(entry: os.DirEntry[str]) -> os.stat_result | None:
    """None for what another process has just removed."""
    try:
        return entry.stat() if entry.is_file() else None
    except OSError:
        return None


def _touch(path: Path) -> None:
    """Say that a shard is in use; seldom, to spare a shared file system."""
    if time.time() - path.stat().st_mtime > IN_USE / 2:
        with suppress(PermissionError):  # somebody else's store, which may be read
            os.utime(path)


def _remove(path: Path) -> None:
    with suppress(OSError):  # another process was quicker, or may and this one may not
        path.unlink()


def _warn(sentence: str) -> None:
    """No `NotedWarning`: results, and hence their notes, are the same whatever the store does."""
    warnings.warn(sentence, stacklevel=3)
