"""Pictures and run folder on a slow file system: the same result.

python -m tools.reliability.slow_disk --pictures 300 --delay 0.01

The delay is artificial and in Python: every call of `os.stat`, `os.lstat`, `os.open`, `os.listdir`, `os.scandir`,
`os.mkdir`, `os.replace`, `os.fsync` and `open` sleeps first, up to the given time. What libraries in C open by
themselves (the backbone's weights, the saved state where it is read) is not delayed.
"""

from __future__ import annotations

import argparse
import builtins
import io
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from random import Random
from typing import Any
from unittest import mock

from cliptune.data import DataSpec
from cliptune.runs import RunSpec
from tools.reliability.large import make_pictures
from tools.reliability.small_runs import contents, small_run

CALLS = ("stat", "lstat", "open", "listdir", "scandir", "mkdir", "replace", "fsync")


@contextmanager
def slow(delay: float, seed: int = 1) -> Iterator[list[int]]:
    """Calls on files take up to `delay` seconds more; how many there were."""
    random, made = Random(seed), [0]

    def late(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*given: Any, **named: Any) -> Any:
            made[0] += 1
            time.sleep(delay * random.random())
            return real(*given, **named)

        return call

    with ExitStack() as stack:
        for name in CALLS:
            stack.enter_context(mock.patch.object(os, name, late(getattr(os, name))))
        opened = late(io.open)
        for home in (builtins, io):
            stack.enter_context(mock.patch.object(home, "open", opened))
        yield made


def same_result(place: Path, pictures: int, delay: float, classes: int = 5) -> dict[str, float]:
    """A run on one's own pictures, with and without delay. The counts."""
    make_pictures(place / "pictures", pictures, classes)

    def run(out: Path, **how: Any) -> dict[str, Any]:
        data = DataSpec.found(str(place / "pictures"))
        options = {"epochs": 3, "batch_size": 16}
        small_run(out, RunSpec("coop", data, options=options, training={"device": "cpu"}), **how)
        return contents(out)

    expected = run(place / "fast")
    started = time.perf_counter()
    with slow(delay) as made:
        found = run(place / "slow", cache_images=False)
    assert found == expected, f"differs in {[name for name in expected if found[name] != expected[name]]}"
    assert made[0] > 3 * pictures // 2, f"only {made[0]} calls were late"
    return {"pictures": pictures, "late calls": made[0], "seconds": round(time.perf_counter() - started, 1)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=300)
    parser.add_argument("--delay", type=float, default=0.01, help="seconds")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        print(f"slow file system: {same_result(Path(place), args.pictures, args.delay)}")


if __name__ == "__main__":
    main()
