"""One file of the store: embeddings under keys, each with a checksum; written whole or not at all, then never changed.

    magic and sizes (64 bytes) | keys (n × 32) | checksums of the rows (n × 4), padded to 64 bytes | rows (n × D × 4)

All numbers are little-endian. At D = 512 a picture takes 2,084 bytes.
"""

from __future__ import annotations

import hashlib
import os
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cliptune.files import atomic_write_bytes

KEY = 32
"""Bytes of a key, a SHA-256."""
SUFFIX = ".rows"
_MAGIC = b"cliptune rows 1\n"
_HEADER = struct.Struct("<16sQQI28x")  # magic, n, D, checksum of keys and checksums
_ALIGNED = 64

Keys = NDArray[np.uint8]
"""(n, 32)."""
Rows = NDArray[np.float32]
"""(n, D)."""


class DamagedShard(ValueError):
    """A file that does not hold what was written."""


@dataclass(frozen=True)
class Shard:
    """What a file says of its rows, which stay on the disk until they are asked for.

    Args:
        path: of the file.
        keys: (n, 32).
        checksums: (n,) CRC-32 of each row.
        width: D.
    """

    path: Path
    keys: Keys
    checksums: NDArray[np.uint32]
    width: int

    def __len__(self) -> int:
        return len(self.keys)

    def rows(self, positions: NDArray[np.int64]) -> Rows:
        """Copies of some rows (m, D), read through a memory map that is closed again.

        Raises: FileNotFoundError if the file was removed meanwhile; DamagedShard if a row is not what was written.
        """
        start = _rows_begin(len(self))
        try:
            mapped = np.memmap(self.path, np.dtype("<f4"), "r", start, (len(self), self.width))
        except ValueError as error:  # shorter than it was
            raise DamagedShard(str(error)) from error
        rows = np.asarray(mapped)[positions]  # picked out of a plain array, they are copied once
        del mapped
        for row, told in zip(rows, self.checksums[positions], strict=True):
            if zlib.crc32(row) != told:
                raise DamagedShard("a row does not have its checksum")
        return rows


def write_shard(folder: Path, keys: Keys, rows: Rows) -> Path:
    """A new file in `folder`, named by its content: whoever writes the same once more changes nothing.

    Raises: OSError if it cannot be written; nothing is left of it then.
    """
    rows = np.ascontiguousarray(rows, np.dtype("<f4"))
    checksums = np.array([zlib.crc32(row) for row in rows], np.dtype("<u4"))
    index = np.ascontiguousarray(keys).tobytes() + checksums.tobytes()
    header = _HEADER.pack(_MAGIC, len(rows), rows.shape[1], zlib.crc32(index))
    padding = bytes(_rows_begin(len(rows)) - len(header) - len(index))
    content = b"".join((header, index, padding, rows.tobytes()))
    path = folder / f"{hashlib.sha256(content).hexdigest()[:24]}{SUFFIX}"
    if not path.exists():
        atomic_write_bytes(path, content)
    return path


def open_shard(path: Path) -> Shard:
    """Raises: FileNotFoundError; DamagedShard for a file that is cut short or was changed."""
    with path.open("rb") as file:
        begin = file.read(_HEADER.size)
        if len(begin) < _HEADER.size:
            raise DamagedShard("it ends within its first bytes")
        magic, n, width, told = _HEADER.unpack(begin)
        size = os.fstat(file.fileno()).st_size
        if magic != _MAGIC or size != _rows_begin(n) + 4 * n * width:
            raise DamagedShard("it is not as long as it says, or not such a file")
        index = file.read(n * (KEY + 4))
    if zlib.crc32(index) != told:
        raise DamagedShard("its list of keys does not have its checksum")
    keys = np.frombuffer(index, np.uint8, n * KEY).reshape(n, KEY)
    return Shard(path, keys, np.frombuffer(index, np.dtype("<u4"), n, n * KEY), width)


def _rows_begin(n: int) -> int:
    end = _HEADER.size + n * (KEY + 4)
    return end + -end % _ALIGNED
