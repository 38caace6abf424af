"""How time and memory grow with images, classes, runs and views, and the exponents of that growth.

    python benchmarks/growth.py [list hash store views sample texts table] [--largest 1] [--limit 60]

Each step is made in a process of its own, at sizes that grow by √10 to the largest one times --largest, or until a step
takes longer than --limit seconds of processor time. "exponent" is the slope of log time against log size over the steps
that take at least 50 ms: 1 is linear; it is told of all the time, and of what the process itself computes. The rest is
the system's, which opens files and gives memory. Memory is the peak of the process, less what it held before the work
began.

- list: a folder of class folders with N files of 1 KiB is read as a data set. N to 100,000.
- hash: the SHA-256 of each of them. N to 100,000, warm: they were just written.
- store: N embeddings of 512 values are looked up in a store that holds them, by new objects. N to 100,000.
- views: 1,000 pictures in V views are looked up. V to 100.
- sample: few-shot images are drawn from C classes of 20 images. C to 10,000.
- texts: C class names become token batches. C to 10,000.
- table: R finished runs, ten seeds of each data set, are read and made one table. R to 2,000.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import multiprocessing
import shutil
import tempfile
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from resource import RUSAGE_SELF, getrusage
from types import SimpleNamespace
from typing import Any

import numpy as np
import yaml

SMALLEST, STEP, CLEAR = 1e-2, math.sqrt(10), 0.05
Work = Callable[[], object]


def files(folder: Path, n: int) -> Path:
    """A hundred class folders, or fewer, of files that begin like a PNG."""
    classes = min(100, max(2, n // 10))
    for c in range(classes):
        (folder / f"thing {c}").mkdir(parents=True)
    for i in range(n):
        content = b"\x89PNG\r\n\x1a\n" + i.to_bytes(8, "little") * 126
        (folder / f"thing {i % classes}" / f"{i:06d}.png").write_bytes(content)
    return folder


def make_list(folder: Path, n: int) -> Work:
    from cliptune.data import load_data

    files(folder / "pictures", n)
    return lambda: load_data(str(folder / "pictures"))


def make_hash(folder: Path, n: int) -> Work:
    from cliptune.data import load_data

    data = load_data(str(files(folder / "pictures", n)))
    return lambda: [split.digest(i) for split in (data.train, data.val, data.test) for i in range(len(split))]


def keys_of(n: int, salt: str = "") -> np.ndarray:
    named = b"".join(hashlib.sha256(f"{salt}{i}".encode()).digest() for i in range(n))
    return np.frombuffer(named, np.uint8).reshape(-1, 32)


def stored(folder: Path, keys: np.ndarray) -> Work:
    from cliptune.features import FeatureStore

    store = FeatureStore(folder)
    space = store.space("tower")
    space.described = {"backbone": "made up", "group": 8}
    for start in range(0, len(keys), 2048):
        part = keys[start : start + 2048]
        store.add(space, part, np.random.default_rng(start).normal(size=(len(part), 512)).astype(np.float32))
    return lambda: FeatureStore(folder).space("tower").read(keys)


def make_store(folder: Path, n: int) -> Work:
    return stored(folder, keys_of(n))


def make_views(folder: Path, n: int) -> Work:
    return stored(folder, np.concatenate([keys_of(1000, str(view)) for view in range(n)]))


def make_sample(folder: Path, n: int) -> Work:
    from cliptune.data.fewshot import few_shot_indices

    labels = [c for c in range(n) for _ in range(20)]
    return lambda: few_shot_indices(labels, labels[::4], 16, 1)


def make_texts(folder: Path, n: int) -> Work:
    from cliptune.clip.weights.load import load_clip
    from cliptune.texts import ClassSet, TemplatePhrasing

    clip = load_clip("mini")
    return lambda: TemplatePhrasing()(clip, ClassSet([f"thing number {c}" for c in range(n)]))


def make_table(folder: Path, n: int) -> Work:
    """Copies of a run, ten seeds for each data set."""
    from cliptune.clip.weights.load import load_clip
    from cliptune.data import load_data
    from cliptune.protocols import few_shot
    from cliptune.results.tables import collect, rows
    from cliptune.runs.manifest import MANIFEST, write_result

    first = folder / "made"
    few_shot("zeroshot", load_clip("mini"), load_data("tinyworld/symbols"), shots=1, out=first, progress="silent")
    config = yaml.safe_load((first / "config.yaml").read_text())
    result = json.loads((first / "result.json").read_text())
    for i in range(n):
        place, seed = folder / "runs" / f"run-{i}", i % 10 + 1
        shutil.copytree(first, place, ignore=shutil.ignore_patterns("result.json", MANIFEST))
        for content in (config, result):
            content["data"]["name"], content["seed"] = f"set {i // 10}", seed
        (place / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
        write_result(place, result)
    return lambda: rows(collect(folder / "runs"))


STEPS: dict[str, tuple[Callable[[Path, int], Work], int]] = {
    "list": (make_list, 100_000),
    "hash": (make_hash, 100_000),
    "store": (make_store, 100_000),
    "views": (make_views, 100),
    "sample": (make_sample, 10_000),
    "texts": (make_texts, 10_000),
    "table": (make_table, 2_000),
}


def step(answer: Connection, name: str, n: int) -> None:
    """In a process of its own, whose peak of memory is that of this size alone."""
    with tempfile.TemporaryDirectory() as folder:
        work = STEPS[name][0](Path(folder), n)
        before, clock = getrusage(RUSAGE_SELF), time.perf_counter()
        kept = work()
        after, passed = getrusage(RUSAGE_SELF), time.perf_counter() - clock
        own, system = after.ru_utime - before.ru_utime, after.ru_stime - before.ru_stime
        answer.send((own + system, own, passed, after.ru_maxrss - before.ru_maxrss))
        del kept


def measured(name: str, n: int) -> SimpleNamespace:
    receiver, sender = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("spawn").Process(target=step, args=(sender, name, n))
    process.start()
    sender.close()
    seconds, own, clock, kib = receiver.recv()
    process.join()
    return SimpleNamespace(n=n, seconds=seconds, own=own, clock=clock, mib=kib / 1024)


def exponent(sizes: list[int], seconds: list[float]) -> float:
    """Slope of log seconds over log n; not a number with fewer than two steps that take long enough."""
    clear = [(n, took) for n, took in zip(sizes, seconds, strict=True) if took >= CLEAR]
    return float(np.polyfit(*np.log(clear).T, 1)[0]) if len(clear) > 1 else math.nan


def sizes(largest: int) -> list[int]:
    smallest = max(10, largest * SMALLEST)
    count = max(2, round(math.log(largest / smallest, STEP)) + 1)
    return [round(largest / STEP**i) for i in reversed(range(count))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("steps", nargs="*", help="all of them, if none is named")
    parser.add_argument("--largest", type=float, default=1.0, help="times the largest size of each step")
    parser.add_argument("--limit", type=float, default=60.0, help="seconds of a step after which it grows no further")
    asked: Any = parser.parse_args()
    for name in asked.steps or STEPS:
        found: list[SimpleNamespace] = []
        for n in sizes(round(STEPS[name][1] * asked.largest)):
            found.append(measured(name, n))
            print(
                f"{name:8s} {n:8,d}  {found[-1].seconds:8.3f} s, {found[-1].own:8.3f} s of the process  "
                f"{found[-1].clock:8.3f} s on the clock  {found[-1].mib:8.1f} MiB",
                flush=True,
            )
            if found[-1].seconds > asked.limit:
                break
        end, ns = found[-1], [one.n for one in found]
        both = (exponent(ns, [getattr(one, which) for one in found]) for which in ("seconds", "own"))
        told = " | ".join(f"{value:.2f}" for value in both)
        print(f"| {name} | {end.n:,} | {end.seconds:.2f} s, {end.own:.2f} s | {end.mib:.0f} MiB | {told} |")


if __name__ == "__main__":
    main()
