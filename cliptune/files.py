"""Writing files so that a crash or a full disk never harms what stood there before."""

from __future__ import annotations

import errno
import json
import os
import tempfile
from pathlib import Path
from typing import Any


def atomic_write_bytes(path: str | Path, content: bytes) -> None:
    """Write `content` to a temporary file beside `path`, flush it to disk, then rename it over `path`.

    Raises: OSError with a sentence if the disk is full or the folder cannot be written; `path` is then as before.
    """
    path = Path(path)
    temporary: str | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except OSError as error:
        if temporary is not None and os.path.exists(temporary):
            os.unlink(temporary)
        raise explained(error, path) from error


def atomic_write_text(path: str | Path, text: str) -> None:
    """`atomic_write_bytes` of UTF-8 text."""
    atomic_write_bytes(path, text.encode("utf-8"))


def atomic_write_json(path: str | Path, value: Any) -> None:
    """`atomic_write_bytes` of indented JSON with a final newline."""
    atomic_write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def explained(error: OSError, path: str | Path) -> OSError:
    """The same error as a sentence that says what happened to `path` and what to do."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        reason = "the disk is full. Nothing already written was lost; free some space and start the same command again"
    elif error.errno in (errno.EACCES, errno.EROFS, errno.EPERM):
        reason = "the folder may not be written. Choose another with --out, or change its permissions"
    else:
        reason = f"{error.strerror or error}. What stood there before is unchanged"
    return OSError(error.errno, f"cliptune could not write {path}: {reason}.")


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
