"""What the campaigns share: a small run, what is compared of its folder, and what a process holds."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import cliptune
from cliptune.data import DataSpec
from cliptune.protocols import run
from cliptune.runs import RunSpec, read_metrics, read_result
from cliptune.runs.file_names import CONFIG, CONFIG_FILE, SPLIT, STATE, WEIGHTS

FISHES = DataSpec("tinyworld/fishes", options={"train": 4, "val": 0, "test": 5}, shots=2)
SPEC = RunSpec("coop", FISHES, options={"epochs": 3, "batch_size": 8}, training={"views": 2, "device": "cpu"})
"""CoOp from two images per class, with one evaluation: state, metrics, adapter and result are written."""
ROOT = Path(cliptune.__file__).parents[1]


def small_run(out: Path, spec: RunSpec = SPEC, **how: Any) -> dict[str, Any]:
    """Make a run in this process, or go on with it."""
    return run(spec, out, **{"progress": "silent", **how})


def contents(folder: Path) -> dict[str, Any]:
    """What must be equal, bit for bit, in two folders of the same run: all but clock readings and where it ran."""
    same: dict[str, Any] = {name: (folder / name).read_bytes() for name in (CONFIG_FILE, SPLIT, CONFIG, WEIGHTS)}
    return same | {
        "result": timeless(read_result(folder)),
        "metrics": timeless(read_metrics(folder)),
        "state": (folder / STATE).exists(),
        "unfinished files": sorted(path.name for path in folder.rglob(".*")),
    }


def timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: timeless(item) for name, item in value.items() if name not in ("seconds", "peak_memory_bytes")}
    return [timeless(item) for item in value] if isinstance(value, list) else value


def seconds_in(folder: Path) -> list[float]:
    """Every duration that a run's folder speaks of."""
    found: list[float] = []

    def walk(value: Any) -> None:
        if isinstance(value, dict):
            found.extend(item for name, item in value.items() if name.endswith("seconds"))
        for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
            walk(item)

    walk([read_result(folder), read_metrics(folder), json.loads(position(folder))])
    return found


def position(folder: Path) -> str:
    """The plain values of the saved state."""
    from safetensors import safe_open

    with safe_open(str(folder / STATE), framework="pt") as file:
        return str(file.metadata()["values"])


def descriptors() -> int:
    """Open files of this process."""
    return len(os.listdir("/proc/self/fd"))


def resident() -> float:
    """Memory of this process now, in MiB."""
    return _memory("VmRSS")


def peak() -> float:
    """Most memory of this process since `forget_peak`, in MiB."""
    return _memory("VmHWM")


def forget_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def _memory(name: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith(f"{name}:"))) / 1024
