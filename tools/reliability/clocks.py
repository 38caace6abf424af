"""Runs under clocks that jump backwards and forwards: no negative seconds, no endless wait, the same numbers.

python -m tools.reliability.clocks --runs 60

`time.time` and `time.monotonic` are replaced, for the whole process, by clocks that go on as they should and now and
then jump by up to a day either way. The real ones decide whether a run took too long.
"""

from __future__ import annotations

import argparse
import io
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from unittest import mock

from cliptune.sweep.bench import run_grid
from cliptune.sweep.cells import Cell
from cliptune.texts.endpoint import _asked_wait
from cliptune.training.progress import Lines
from tools.reliability.small_runs import SPEC, contents, seconds_in, small_run

LIMIT = 120.0
DAY = 86400.0


def jumping(real: Callable[[], float], random: Random) -> Callable[[], float]:
    """A clock that is off by an amount which changes at every twentieth look or so."""
    off = 0.0

    def now() -> float:
        nonlocal off
        if random.random() < 0.05:
            off += random.choice([-1, 1]) * random.choice([0.5, 90.0, 4000.0, DAY])
        return real() + off

    return now


@contextmanager
def jumps(seed: int) -> Iterator[None]:
    """Both clocks of this process jump."""
    random = Random(seed)
    with (
        mock.patch.object(time, "time", jumping(time.time, random)),
        mock.patch.object(time, "monotonic", jumping(time.monotonic, random)),
    ):
        yield


def many_runs(place: Path, runs: int) -> dict[str, float]:
    """Runs, interrupted and taken up again, and one-cell grids, each under other jumps. The counts."""
    small_run(place / "whole")
    expected, real = contents(place / "whole"), time.perf_counter
    checked, longest = 0, 0.0
    for seed in range(runs):
        started, out = real(), place / f"run-{seed}"
        with jumps(seed):
            if seed % 2:
                cut_short(out)
                small_run(out, save_every=30.0)
            else:
                (outcome,) = run_grid([Cell(SPEC, out)])
                assert outcome.error is None, outcome.error
                assert outcome.seconds is not None
                assert outcome.seconds >= 0, f"seed {seed}: the outcome took {outcome.seconds} s"
            wait = _asked_wait("Sun, 29 Nov 2026 12:00:00 GMT")
            assert 0 <= wait <= LIMIT, f"seed {seed}: an endpoint is waited for {wait} s"
        longest = max(longest, real() - started)
        assert contents(out) == expected, f"seed {seed}: the run differs from one with a steady clock"
        told = seconds_in(out)
        assert min(told) >= 0, f"seed {seed}: negative seconds in {told}"
        checked += len(told)
    assert longest < LIMIT, f"a run took {longest:.0f} s"
    return {"runs": runs, "durations": checked, "longest (s)": round(longest, 1)}


class _Stop(Lines):
    """Interrupts at the fourth step."""

    def advance(self, description: str) -> None:
        super().advance(description)
        if self._done == 4:
            raise KeyboardInterrupt


def cut_short(out: Path) -> None:
    """The first half of the small run."""
    try:
        small_run(out, progress=_Stop(io.StringIO()), save_every=30.0)
    except KeyboardInterrupt:
        return
    raise AssertionError("the run was over before it was interrupted")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=60)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        print(f"clocks that jump: {many_runs(Path(place), args.runs)}")


if __name__ == "__main__":
    main()
