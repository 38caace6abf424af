"""A disk that is full at every point where a run writes: one sentence each time, and nothing lost.

    python -m tools.reliability.full_disk            # every call that writes, then a small disk of every size
    python -m tools.reliability.full_disk --every 5  # every fifth of them

Calls: each call of the operating system that can find a full disk (making a folder or a file, writing, flushing,
renaming) fails from the k-th one on, for every k, in the run's folder alone. Disks: where the system lets a process
mount its own (`unshare`), the run goes to a real one of k pages, or of k files, for every k until it fits. Each time
the run must end with an error that says so in a sentence; then there is room, the same run is asked for once more, and
its folder must equal that of a run that was never disturbed.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

from tools.reliability.small_runs import ROOT, contents, small_run

INSIDE = "--inside"
_ENTER = ("unshare", "--map-root-user", "--mount")
_PAGE = 4096


def every_call(place: Path, every: int = 1) -> dict[str, int]:
    """Let the k-th call that writes, and all after it, find the disk full; for every `every`-th k. The counts."""
    whole = place / "whole"
    with full_from(place, None) as calls:
        small_run(whole)
    expected, failed = contents(whole), 0
    for k in range(0, calls[0], every):
        out = place / f"from-{k}"
        with full_from(place, k):
            error = attempt(out)
        failed += check_sentence(error, f"call {k}")
        check_goes_on(out, expected, f"call {k}")
        shutil.rmtree(out)
    return {"calls": calls[0], "tried": len(range(0, calls[0], every)), "sentences": failed}


def every_size(place: Path, every: int = 1) -> dict[str, int]:
    """Real disks of k pages, then of k files, for every `every`-th k until the run fits. The counts."""
    small_run(place / "whole")
    expected = contents(place / "whole")
    counts = {}
    for what, room in (("pages", lambda k: f"size={k * _PAGE}"), ("files", lambda k: f"nr_inodes={k},size=8m")):
        k = 1
        while not _fits_on(place / "disk", room(k), expected, f"{k} {what}"):
            k += every
        counts[f"disks of 1 to {k} {what}"] = len(range(1, k + 1, every))
    return counts


def _fits_on(disk: Path, room: str, expected: dict[str, Any], who: str) -> bool:
    """Whether the run fits; if not, it must have said so, and go on once there is room."""
    disk.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", room, "tmpfs", str(disk)], check=True)
    try:
        error = attempt(disk / "run")
        if error is not None:
            check_sentence(error, who)
            subprocess.run(["mount", "-o", "remount,size=32m,nr_inodes=1000", str(disk)], check=True)
        check_goes_on(disk / "run", expected, who)
    finally:
        subprocess.run(["umount", str(disk)], check=True)
    return error is None


def attempt(out: Path) -> OSError | None:
    """What stopped the small run, if it was the disk."""
    try:
        small_run(out)
    except OSError as error:
        return error
    return None


def check_sentence(error: OSError | None, who: str) -> int:
    """1. Raises: AssertionError if a run did not end as one that found the disk full."""
    assert error is not None, f"{who}: the run ended as if nothing had happened"
    told = str(error)
    assert "cliptune could not write" in told, f"{who}: {told}"
    assert "the disk is full" in told, f"{who}: {told}"
    return 1


def check_goes_on(out: Path, expected: dict[str, Any], who: str) -> None:
    """Raises: AssertionError if the same run, asked for once more, ends otherwise than one never disturbed."""
    error = attempt(out)
    assert error is None, f"{who}: {error}"
    found = contents(out)
    assert found == expected, f"{who}: differs in {[name for name in expected if found[name] != expected[name]]}"


@contextlib.contextmanager
def full_from(place: Path, k: int | None) -> Iterator[list[int]]:
    """Calls that write below `place` find the disk full from the k-th on (None: never); how many there were."""
    made = [0]

    def counted(real: Callable[..., Any], writes: Callable[..., object]) -> Callable[..., Any]:
        def call(*given: Any, **named: Any) -> Any:
            where = given[0] if not isinstance(given[0], int) else os.readlink(f"/proc/self/fd/{given[0]}")
            if str(where).startswith(str(place)) and writes(*given, **named):
                made[0] += 1
                if k is not None and made[0] > k:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(where))
            return real(*given, **named)

        return call

    always = lambda *_, **__: True
    creates = lambda path, flags, *_, **__: flags & os.O_CREAT and not os.path.exists(path)
    with contextlib.ExitStack() as stack:
        for name, writes in (
            *((name, always) for name in ("write", "fsync", "replace", "rename")),
            ("open", creates),
            ("mkdir", lambda path, *_, **__: not os.path.exists(path)),
        ):
            stack.enter_context(mock.patch.object(os, name, counted(getattr(os, name), writes)))
        yield made


def may_mount() -> bool:
    """Whether this system lets a process mount a disk of its own."""
    try:
        subprocess.run([*_ENTER, "mount", "-t", "tmpfs", "tmpfs", "/mnt"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        return False
    return True


def report(every: int = 1) -> list[str]:
    """Try everything; a line for each campaign."""
    with tempfile.TemporaryDirectory() as place:
        counts = every_call(Path(place), every)
    lines = [f"full disk at every call: {counts}"]
    if not may_mount():
        return [*lines, "real small disks: skipped, this system lets no process mount its own"]
    asked = [*_ENTER, sys.executable, "-m", "tools.reliability.full_disk", INSIDE, "--every", str(every)]
    inside = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True)
    assert inside.returncode == 0, inside.stderr
    return [*lines, inside.stdout.strip()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--every", type=int, default=1, help="try every so manieth point")
    parser.add_argument(INSIDE, action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.inside:
        with tempfile.TemporaryDirectory() as place:
            print(f"real small disks: {every_size(Path(place), args.every)}")
    else:
        print(*report(args.every), sep="\n")


if __name__ == "__main__":
    main()
