"""Many pictures, many classes, many runs, many epochs: time and memory.

    python -m tools.reliability.large                                        # all, at full size
    python -m tools.reliability.large --pictures 2000 --classes 200 --runs 50 --epochs 60

Memory is the process's own, in MiB: the most that a step needs beyond what was there before it. What is to stay flat
(memory over the epochs, open files over everything) is checked; times are told.
"""

from __future__ import annotations

import argparse
import gc
import json
import shutil
import struct
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import replace
from io import StringIO
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import yaml

import cliptune
from cliptune.cli.main import main as cliptune_command
from cliptune.data import DataSpec
from cliptune.data.items import SPLITS
from cliptune.data.own.split_files import make_split
from cliptune.data.published.check import check_published
from cliptune.runs import RunSpec, read_config
from cliptune.runs.file_names import MANIFEST, RESULT
from cliptune.runs.manifest import write_result
from cliptune.training import evaluate
from cliptune.training.progress import Silent
from tools.reliability.small_runs import SPEC, descriptors, forget_peak, peak, resident, small_run

LEAK = 0.5
"""Most growth of memory over a quarter of the epochs, in MiB, that still counts as flat."""


@contextmanager
def measured(what: str) -> Iterator[None]:
    """Print the time and memory of a step."""
    gc.collect()
    forget_peak()
    before, started = resident(), time.perf_counter()
    yield
    print(f"  {what}: {time.perf_counter() - started:.1f} s, {peak() - before:.0f} MiB", flush=True)


def png(value: int) -> bytes:
    """A picture of 4 × 4 pixels of two colours; every value below 2⁴⁸ gives other bytes."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    rows = (b"\0" + value.to_bytes(6, "big") * 2) * 4
    header = struct.pack(">IIBBBBB", 4, 4, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows, 1)) + chunk(b"IEND", b"")


def make_pictures(folder: Path, pictures: int, classes: int) -> None:
    """Class folders with as many pictures each."""
    for c in range(classes):
        own = folder / f"class_{c:04d}"
        own.mkdir(parents=True)
        for i in range(pictures // classes):
            (own / f"{i:06d}.png").write_bytes(png(c * 100_003 + i))


def many_pictures(place: Path, pictures: int, classes: int = 100) -> None:
    """A folder of one's own and a published data set with so many pictures: listing, splitting, hashing, checking."""
    root = place / "data"
    images = root / "caltech-101" / "101_ObjectCategories"
    make_pictures(images, pictures, classes)
    with measured("list and split the folder (DataSpec.open)"):
        data = DataSpec.found(str(images)).open()
    assert sum(len(data[split]) for split in SPLITS) == pictures // classes * classes
    assert len({path for split in SPLITS for path in data[split].ids}) == pictures // classes * classes
    with measured("hash the lists (split_sha256)"):
        digest = data.split_sha256
    assert DataSpec.found(str(images)).open().split_sha256 == digest
    with measured("16 shots, described with the content of each picture"):
        described = data.few_shot(16, 1).descriptor()
    assert len({row[2] for row in described["train"]}) == len(described["train"]) == 16 * classes
    with measured("all pictures, described"):
        described = data.descriptor()
    assert len(described["train"]) == len(data.train)
    with measured("write the split file"):
        content = json.dumps(make_split(data))
        (root / "caltech-101" / "split_zhou_Caltech101.json").write_text(content)
    del data, described, content
    with measured("data check, every picture decoded"):
        check = check_published("caltech101", root, threads=2)
    assert check.usable, check.findings
    assert sum(check.modes.values()) == pictures // classes * classes


def many_classes(place: Path, classes: int) -> None:
    """Zero-shot among so many classes, one test picture each."""
    make_pictures(place / "classes", 2 * classes, classes)
    with measured("list"):
        spec = DataSpec.found(str(place / "classes"), fractions=(0.5, 0.0, 0.5))
        spec.open()
    with measured("zero-shot on mini, from texts to result"):
        result = small_run(place / "zeroshot", RunSpec("zeroshot", spec, training={"device": "cpu"}))
    assert len(result["evaluations"]["test"]["per_class"]) == result["evaluations"]["test"]["n"] == classes
    with measured("open the run again"):
        adapter = cliptune.load(place / "zeroshot")
    assert len(adapter.class_names) == classes


def many_runs(place: Path, runs: int, seeds: int = 10) -> None:
    """A table of so many run folders: copies of a finished one under other names and seeds."""
    made = place / "made"
    small_run(made)
    config, result = read_config(made), json.loads((made / "result.json").read_text())
    for i in range(runs):
        name, seed = f"set{i // seeds:04d}", i % seeds + 1
        folder = place / "runs" / name / f"seed{seed}"
        shutil.copytree(made, folder)
        for content in (config, result):
            content["data"]["name"], content["seed"] = name, seed
        result["source"] = {**result["source"], "name": name}
        (folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
        for name in (RESULT, MANIFEST):
            (folder / name).unlink()
        write_result(folder, result)
    with measured("cliptune table, as CSV"), redirect_stdout(StringIO()) as told:
        assert cliptune_command(["table", str(place / "runs"), "--format", "csv"]) == 0
    # The header, a row for each data set, and their average.
    sets = -(-runs // seeds)
    assert len(told.getvalue().splitlines()) == sets + (2 if sets > 1 else 1)


class _Watch(Silent):
    """Notes memory and open files at the end of every epoch."""

    def __init__(self) -> None:
        self.memory: list[float] = []
        self.files: list[int] = []

    def say(self, line: str, minor: bool = False) -> None:
        if minor:
            self.memory.append(resident())
            self.files.append(descriptors())


def many_epochs(place: Path, epochs: int, workers: int = 0) -> None:
    """A long run: whether its memory and its open files grow."""
    watch = _Watch()
    training = {"device": "cpu", "select": "val", **({} if workers else {"views": 2})}
    spec = replace(SPEC, options={**SPEC.options, "epochs": epochs}, training=training)
    spec = replace(spec, data=replace(spec.data, options={"train": 4, "val": 2, "test": 5}))
    small_run(place / "first")  # what is loaded once is loaded now
    with measured(f"{epochs} epochs with {workers} workers"):
        small_run(place / f"long-{workers}", spec, progress=watch, workers=workers)
    grown = check_flat(watch.memory, f"memory over epochs with {workers} workers")
    assert len(set(watch.files[1:])) <= 1, f"open files over epochs: {sorted(set(watch.files))}"
    print(f"  memory over a quarter: {grown:+.2f} MiB; open files: {watch.files[-1]}")


def again_and_again(place: Path, times: int = 50) -> None:
    """So many `cliptune.load` and evaluations of a run: memory and open files."""
    folder = place / "again"
    small_run(folder)
    data = SPEC.data.whole.open()
    for what, step in (
        ("cliptune.load", lambda: cliptune.load(folder)),
        ("evaluate", lambda adapter=cliptune.load(folder): evaluate(adapter, data.test)),
    ):
        memory, files = watched(step, times)
        grown = check_flat(memory, what)
        assert files[0] == files[-1], f"{what}: {files[0]} open files became {files[-1]}"
        print(f"  {times} × {what}: {grown:+.2f} MiB over a quarter; open files {files[0]} → {files[-1]}")


def watched(step: Callable[[], Any], times: int) -> tuple[list[float], list[int]]:
    """Memory and open files after each of so many steps."""
    memory, files = [], []
    for _ in range(times):
        step()
        gc.collect()
        memory.append(resident())
        files.append(descriptors())
    return memory, files


def check_flat(memory: Sequence[float], what: str) -> float:
    """The median growth over the last three quarters, in MiB. What leaks grows in all of them; what an allocator sets
    aside or gives back once shows in one. Raises: AssertionError above `LEAK`.
    """
    quarters = np.array_split(np.asarray(memory), 4)
    grown = [float(after[-1] - before[-1]) for before, after in pairwise(quarters)]
    assert np.median(grown) <= LEAK, f"{what}: memory grows, over the last quarters by {grown} MiB"
    return float(np.median(grown))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, size in (("pictures", 100_000), ("classes", 5000), ("runs", 2000), ("epochs", 500)):
        parser.add_argument(f"--{name}", type=int, default=size, help=f"{size:,}; 0 leaves this out")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for step, size in (
            (many_pictures, args.pictures),
            (many_classes, args.classes),
            (many_runs, args.runs),
            (many_epochs, args.epochs),
        ):
            if size:
                print(f"{step.__name__.replace('_', ' ')}: {size:,}", flush=True)
                place = Path(folder) / step.__name__
                place.mkdir()
                step(place, size)
                shutil.rmtree(place)
        if args.epochs:
            print("workers, loads, evaluations")
            many_epochs(Path(folder), max(args.epochs // 10, 4), workers=2)
            again_and_again(Path(folder))


if __name__ == "__main__":
    sys.exit(main())
