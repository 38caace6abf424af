"""Campaigns: many cases for one reader of content from outside, each of which must end in an answer or one sentence.

In a usual run of the tests every campaign has 50 cases of one seed. By hand:

    CLIPTUNE_FUZZ_CASES=2000 CLIPTUNE_FUZZ_SEED=7 python -m pytest tests/fuzz

`make nightly` does so with the day as seed; a table of what came of the cases is printed at the end.
"""

from __future__ import annotations

import os
import re
import resource
import signal
import sys
import traceback
import unicodedata
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.strategies import SearchStrategy

import cliptune

USUAL = 50
CASES = int(os.environ.get("CLIPTUNE_FUZZ_CASES", USUAL))
SEED = int(os.environ.get("CLIPTUNE_FUZZ_SEED", "0"))
SECONDS = 10
MIB = 1 << 20
LONGEST_SENTENCE = 1200

PACKAGE = Path(cliptune.__file__).parent
REFUSED, UNKNOWN = "refused", "unknown"
"""What a plain reader returns for a case that must be refused, and for one of which it does not know."""

campaigns: list[Campaign] = []
"""Those of this process, for the table at its end."""


class Hang(BaseException):
    """A case took too long. Readers that catch every Exception do not catch it."""


@dataclass
class Campaign:
    """What came of the cases of one reader.

    Args:
        reader: what the table calls it.
        defects: what was wrong and where → the shortest case that shows it, and what was said.
    """

    reader: str
    cases: int = 0
    answers: int = 0
    sentences: int = 0
    defects: dict[str, tuple[Any, str]] = field(default_factory=dict)

    def defect(self, kind: str, case: Any, said: str = "") -> None:
        known = self.defects.get(kind)
        if known is None or len(repr(case)) < len(repr(known[0])):
            self.defects[kind] = (case, said)

    def __str__(self) -> str:
        shown = [f"{kind}\n    said: {said}\n    case: {case!r:.500}" for kind, (case, said) in self.defects.items()]
        return f"{self.reader}: {len(shown)} kinds of defects in {self.cases} cases\n" + "\n".join(shown)


def campaign(
    reader: str,
    cases: SearchStrategy[Any],
    read: Callable[[Any], Any],
    folder: Path,
    *,
    plain: Callable[[Any], Any] | None = None,
    memory: int = 512 * MIB,
) -> None:
    """Give the reader `CASES` cases and fail if one of them shows a defect.

    A case ends well in an answer, or in a ValueError or OSError that is raised by the package itself and is one
    printable sentence; within 10 seconds of computing and the memory, without a program started, a host asked or a
    file written outside of `folder`.

    Args:
        reader: what the table calls it.
        cases: strategy of the cases.
        read: case → answer.
        folder: the only one that may be written.
        plain: case → the answer of a slow, careful reader, `REFUSED` or `UNKNOWN`.
        memory: bytes that a case may use beyond those of the process before.
    """
    found = Campaign(reader)
    campaigns.append(found)

    @seed(SEED)
    @settings(
        max_examples=CASES,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(cases)
    def one(case: Any) -> None:
        found.cases += 1
        _one(found, case, read, folder, plain)

    with _bounded(memory):
        one()
    assert not found.defects, str(found)


def _one(found: Campaign, case: Any, read: Callable[[Any], Any], folder: Path, plain: Any) -> None:
    answer: Any = REFUSED
    with _watched(folder) as effects, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with _timed():
                answer = read(case)
            found.answers += 1
        except (ValueError, OSError) as error:
            found.sentences += 1
            for fault in faults(error):
                found.defect(f"{type(error).__name__} {_place(error)} {fault}", case, repr(str(error)[:500]))
        except (Exception, Hang) as error:
            found.defect(f"{type(error).__name__} {_place(error)}", case, repr(str(error)[:500]))
            return
    for effect in effects:
        found.defect(f"did more than read: {effect}", case)
    expected = UNKNOWN if plain is None else plain(case)
    if expected is UNKNOWN or (expected is REFUSED and answer is REFUSED):
        return
    if expected is REFUSED or answer is REFUSED:
        found.defect(f"was {'answered' if expected is REFUSED else 'refused'}, and should not be", case)
    elif answer != expected:
        found.defect("has another answer than that of the plain reader", case)


def faults(error: BaseException) -> Iterator[str]:
    """What keeps an error from being one sentence of ours."""
    text = str(error)
    last = traceback.extract_tb(error.__traceback__)[-1]
    if not Path(last.filename).is_relative_to(PACKAGE):
        yield "is not raised by the package"
    if not text.strip() or len(text) > LONGEST_SENTENCE:
        yield "is empty or too long for a sentence"
    odd = next((c for c in text if unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp")), None)
    if odd is not None:
        yield "holds a character that cannot be printed"
    if not re.search(r"[.!?)…]$", text):
        yield "does not end as a sentence does"


def _place(error: BaseException) -> str:
    ours = [line for line in traceback.extract_tb(error.__traceback__) if Path(line.filename).is_relative_to(PACKAGE)]
    where = ours[-1] if ours else traceback.extract_tb(error.__traceback__)[-1]
    return f"at {Path(where.filename).name}:{where.lineno}"


@contextmanager
def _timed() -> Iterator[None]:
    """Ten seconds of computing, which other work on the machine does not shorten; or twelve times that of waiting."""

    def ring(*_: object) -> None:
        raise Hang(f"it was not done after {SECONDS} seconds")

    clocks = ((signal.SIGPROF, signal.ITIMER_PROF, SECONDS), (signal.SIGALRM, signal.ITIMER_REAL, 12 * SECONDS))
    before = [signal.signal(number, ring) for number, _, _ in clocks]
    for _, clock, seconds in clocks:
        signal.setitimer(clock, seconds)
    try:
        yield
    finally:
        for _, clock, _ in clocks:
            signal.setitimer(clock, 0)
        for (number, _, _), handler in zip(clocks, before, strict=True):
            signal.signal(number, handler)


@contextmanager
def _bounded(memory: int) -> Iterator[None]:
    """Let the process take so much more address space; asking for more is a MemoryError."""
    status = Path("/proc/self/status")
    if not status.exists():
        yield
        return
    size = re.search(r"VmSize:\s+(\d+) kB", status.read_text())
    assert size is not None
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (int(size[1]) * 1024 + memory, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


# An audit hook stays for the life of the process, so there is one, and it looks away while nothing is watched.
_watching: list[tuple[Path, list[str]]] = []
_hooked: list[bool] = []
_PROGRAMS = ("os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "os.putenv", "subprocess.Popen")
_CHANGES = ("os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "shutil.rmtree")
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


@contextmanager
def _watched(folder: Path) -> Iterator[list[str]]:
    if not _hooked:
        sys.addaudithook(_hook)
        _hooked.append(True)
    effects: list[str] = []
    _watching.append((folder, effects))
    try:
        yield effects
    finally:
        _watching.pop()


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if not _watching:
        return
    folder, effects = _watching[-1]
    if event in _PROGRAMS:
        effects.append(f"{event} {arguments[:2]!r:.200}")
    elif event in _CHANGES and not _inside(arguments[0], folder):
        effects.append(f"{event} {arguments[0]!r:.200}")
    elif event == "open" and isinstance(arguments[2], int) and arguments[2] & _WRITES:
        if not _inside(arguments[0], folder):
            effects.append(f"writes {arguments[0]!r:.200}")
    elif event == "socket.connect" and isinstance(arguments[1], tuple) and arguments[1][0] != "127.0.0.1":
        effects.append(f"asks {arguments[1]!r:.200}")


def _inside(path: Any, folder: Path) -> bool:
    if isinstance(path, int):
        return True  # a handle that is open already
    place = os.path.realpath(os.fsdecode(path))
    return place == os.devnull or "__pycache__" in place or Path(place).is_relative_to(folder.resolve())
