"""Measurements of several programs in turn: one asks, each of the others answers from a process of its own.

The process says by a line that it is ready. It answers each line of its input by a line with one number:

    METHOD           seconds of processor time of a training step
    METHOD test      the same of a test batch
    METHOD memory    GiB of memory that the process has held at most so far, all of it: weights, torch, the interpreter
"""

from __future__ import annotations

import shlex
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import redirect_stdout, suppress
from pathlib import Path
from types import TracebackType
from typing import Any

READY = "ready"
STEP, TEST, MEMORY = "step", "test", "memory"
BATCHES = {"cocoop": 1}
"""Images at a time, as in the papers: CoCoOp sees one. DVP's batch of 32 is its own; time only scales with it."""


def processor_seconds(work: Callable[[], object]) -> float:
    """Processor time of one call, of all threads."""
    begun = time.process_time()
    work()
    return time.process_time() - begun


def peak_gib() -> float:
    """Most resident memory that this process has had, GiB."""
    status = Path("/proc/self/status")
    if status.exists():
        # getrusage would also count what the asking process held when it started this one.
        (line,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 2**20
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**30  # macOS counts bytes


def answer_lines(measure: Callable[[str, str], float]) -> None:
    """Answer each line of the input by `measure(method, what)`. What is printed meanwhile is dropped."""
    answers = sys.stdout
    print(READY, flush=True)
    with redirect_stdout(None):
        for line in sys.stdin:
            method, _, what = line.strip().partition(" ")
            print(measure(method, what or STEP), file=answers, flush=True)


class Other:
    """A process that answers.

    Args:
        command: program and arguments. surroundings: as `subprocess.Popen` takes them.
    Raises: SystemExit, a sentence, where it ends before it has answered, or with what is no number.
    """

    def __init__(self, command: list[str], **surroundings: Any) -> None:
        self.command = shlex.join(command)
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "bufsize": 1}
        try:
            self.process = subprocess.Popen(command, **pipes, **surroundings)
        except OSError as error:
            raise SystemExit(f"{self.command} does not start: {error}. Check the command.") from None
        self._line("saying that it is ready")

    def __enter__(self) -> Other:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.process.communicate()  # closes its input, at whose end it stops

    def answer(self, method: str, what: str = STEP) -> float:
        line = method if what == STEP else f"{method} {what}"
        with suppress(BrokenPipeError):  # of a process that has ended, as the next line finds out
            self.process.stdin.write(f"{line}\n")
        text = self._line(f"answering {line!r}")
        try:
            return float(text)
        except ValueError:
            raise SystemExit(
                f"{self.command} must answer {line!r} with a number, got {text.strip()!r}. benchmarks/turns.py says "
                "what is asked."
            ) from None

    def _line(self, doing: str) -> str:
        text = self.process.stdout.readline()
        if not text:
            raise SystemExit(f"{self.command} ended before {doing}. What it says of that stands above.")
        return text
