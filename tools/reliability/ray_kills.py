"""A grid on a Ray cluster of two nodes that loses a worker, or a whole node, at random moments: the same table.

python -m tools.reliability.ray_kills --kills 10

Every other time the process that works in a run's folder is killed, else the second node with all its processes; after
the grid a new node takes its place. Needs Linux and Ray (`pip install 'cliptune[ray]'`).
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import torch

from cliptune.data import DataSpec
from cliptune.sweep.bench import grid_rows, run_grid
from cliptune.sweep.cells import Cell
from cliptune.sweep.grid import Sweep
from cliptune.sweep.ray_engine import RayEngine
from tools.reliability.small_runs import contents

FISHES = DataSpec("tinyworld/fishes", options={"train": 4, "val": 0, "test": 5})
NODE = {"num_cpus": 1, "object_store_memory": 80 * 2**20, "include_dashboard": False, "include_log_monitor": False}
_PATIENCE = 300.0


def grid(out: Path, epochs: int = 240) -> list[Cell]:
    """Four runs of CoOp, with the device named, as Ray's workers do."""
    settled = lambda spec: replace(
        spec, options={"epochs": epochs, "batch_size": 4}, training={**spec.training, "device": "cpu"}
    )
    return Sweep("base2new", ["coop"], [FISHES], shots=[2], seeds=[1, 2, 3, 4], settled=settled).cells(out)


def same_table(place: Path, kills: int, seed: int = 1) -> dict[str, int]:
    """The grid once here, then `kills` times on the cluster, each with a loss at a random moment. The counts."""
    here = run_grid(grid(place / "here"))
    expected = [contents(cell.folder) for cell in grid(place / "here")]
    random, counts = Random(seed), {"worker": 0, "node": 0}
    with two_nodes() as cluster:
        for i in range(kills):
            cells = grid(place / f"there-{i}")
            kind = "node" if i % 2 else "worker"
            killer = threading.Thread(target=lose, args=(cluster, kind, cells, 3 * random.random(), counts))
            killer.start()
            there = run_grid(cells, ray=RayEngine(cluster.address))
            killer.join()
            assert sum(counts.values()) == i + 1, f"kill {i} ({kind}): the grid was over before it"
            if kind == "node":  # Ray starts nodes from the main thread alone
                cluster.add_node(**NODE)
            errors = [outcome.error for outcome in there if outcome.error is not None]
            assert not errors, f"kill {i} ({kind}): {errors}"
            assert grid_rows(there) == grid_rows(here), f"kill {i} ({kind}): another table"
            assert [contents(cell.folder) for cell in cells] == expected, f"kill {i} ({kind}): other folders"
    return {"grids": kills, "killed workers": counts["worker"], "killed nodes": counts["node"]}


def lose(cluster: Any, kind: str, cells: list[Cell], later: float, counts: dict[str, int]) -> None:
    """Kill a worker, or the second node, so many seconds after the first run has begun."""
    until = time.monotonic() + _PATIENCE
    while not any(holder(cell.folder) for cell in cells) and time.monotonic() < until:
        time.sleep(0.01)
    time.sleep(later)
    if kind == "node":
        cluster.remove_node(next(iter(cluster.worker_nodes)), allow_graceful=False)
        counts["node"] += 1
        return
    while time.monotonic() < until and not all((cell.folder / "result.json").exists() for cell in cells):
        worker = next((pid for cell in cells if (pid := holder(cell.folder)) is not None), None)
        if worker is not None and worker != os.getpid():
            os.kill(worker, signal.SIGKILL)
            counts["worker"] += 1
            return
        time.sleep(0.01)


def holder(folder: Path) -> int | None:
    """The process that works in a run's folder: it has the folder open, to keep others out."""
    for entry in Path("/proc").glob("[0-9]*/fd/*"):
        try:
            if os.readlink(entry) == str(folder):
                return int(entry.parts[2])
        except OSError:
            continue
    return None


@contextmanager
def two_nodes() -> Iterator[Any]:
    """A cluster on this machine with room for one run on each of two nodes."""
    # Ray's sockets lie below its folder, in paths of at most 107 bytes.
    place = tempfile.mkdtemp(prefix="ray-", dir="/tmp")
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_TMPDIR": place, "RAY_AUTH_MODE": "disabled"}
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={**NODE, "no_monitor": True})
    try:
        cluster.add_node(**NODE)
        yield cluster
    finally:
        cluster.shutdown()
        shutil.rmtree(place, ignore_errors=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=10)
    args = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as place:
        print(f"Ray: {same_table(Path(place), args.kills)}")


if __name__ == "__main__":
    main()
