"""Fetching a file of known checksum, resumably; where downloads go; whether the network may be used."""

from __future__ import annotations

import os
import sys
import urllib.error
import urllib.request
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path
from typing import IO, TYPE_CHECKING

from cliptune.clip.weights.checkpoint import sha256
from cliptune.files import explained

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# TRANSFORMERS_OFFLINE is what the hub's client and transformers know as well.
_OFFLINE = ("CLIPTUNE_OFFLINE", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
OFFLINE_VARIABLES = ", ".join(_OFFLINE[:-1]) + " or " + _OFFLINE[-1]
_ATTEMPTS = 3
_TIMEOUT_SECONDS = 30
_CHUNK = 1 << 20


def cache_folder() -> Path:
    """Where downloads are kept: $CLIPTUNE_CACHE, else ~/.cache/cliptune."""
    return Path(os.environ.get("CLIPTUNE_CACHE") or "~/.cache/cliptune").expanduser()


def offline() -> bool:
    """Whether CLIPTUNE_OFFLINE, HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE is set to anything but 0, no, off or false."""
    values = (os.environ.get(name, "") for name in _OFFLINE)
    return any(value.strip().lower() not in ("", "0", "no", "off", "false") for value in values)


def fetch(url: str, target: Path, checksum: str) -> Path:
    """Download `url` to `target`, which appears only when it is complete and its SHA-256 is `checksum`.

    What a broken download left behind (`<target>.part`) is continued. Processes that want the same file wait
    for the first one.

    Raises: OSError with a sentence if the network or the disk fails; ValueError if the checksum is wrong.
    """
    from filelock import FileLock

    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{target}.lock"):
            if not target.exists():
                _fetch(url, target, checksum)
    except (urllib.error.URLError, HTTPException, TimeoutError, ConnectionError) as error:
        raise OSError(
            f"cliptune could not download {url} ({error}). What had arrived is kept; start the same command "
            f"again to go on, or put the file at {target} yourself."
        ) from error
    except OSError as error:
        raise explained(error, target) from error
    return target


def _fetch(url: str, target: Path, checksum: str) -> None:
    part = target.with_name(f"{target.name}.part")
    resumed = part.exists()
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            _continue(url, part)
            break
        except (HTTPException, TimeoutError, ConnectionError):
            if attempt == _ATTEMPTS:
                raise
    found = sha256(part)
    if found != checksum and resumed:
        # What was left behind may have been another file; begin anew once.
        part.unlink()
        _continue(url, part)
        found = sha256(part)
    if found != checksum:
        part.unlink()
        raise ValueError(
            f"{url} should have SHA-256 {checksum}, but what arrived has {found}, so it was deleted. "
            "A proxy may have answered in its place; try again, or put the file at "
            f"{target} yourself."
        )
    os.replace(part, target)


def _continue(url: str, part: Path) -> None:
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        answer = urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS)
    except urllib.error.HTTPError as error:
        if error.code == 416 and have:  # nothing lies beyond what we have: the checksum decides
            return
        raise
    with answer:
        goes_on = answer.status == 206
        length = answer.headers.get("Content-Length")
        total = None if length is None else int(length) + (have if goes_on else 0)
        with part.open("ab" if goes_on else "wb") as file, _progress(part.stem, total) as advance:
            advance(have if goes_on else 0)
            _copy(answer, file, advance)
    if total is not None and part.stat().st_size < total:
        raise ConnectionError(f"the connection ended after {part.stat().st_size} of {total} bytes")


def _copy(source: IO[bytes], file: IO[bytes], advance: Callable[[int], None]) -> None:
    while chunk := source.read(_CHUNK):
        file.write(chunk)
        advance(len(chunk))


@contextmanager
def _progress(name: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """A bar with the time left on a terminal, one line elsewhere; on the error stream."""
    if not sys.stderr.isatty():
        size = "" if total is None else f" ({total / 2**20:.0f} MiB)"
        print(f"downloading {name}{size}", file=sys.stderr, flush=True)
        yield lambda count: None
        return
    from rich.console import Console
    from rich.progress import DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(f"downloading {name}", total=total)
        yield lambda count: bar.advance(task, count)
