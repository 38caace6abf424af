"""Small finished runs to explain, trained once for all tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from cliptune import protocols
from cliptune.data import DataSpec
from cliptune.explain import OpenedRun
from cliptune.registry import describe
from cliptune.runs import RunSpec


@pytest.fixture(scope="session")
def runs(tmp_path_factory):
    """Name of a method, and its options → the folder of its run on `tinyworld/objects`, 2 shots for an epoch, trained
    when first asked for. `data`, `shots` and `protocol` are not options of the method."""
    made: dict[str, Path] = {}
    place = tmp_path_factory.mktemp("runs")

    def run(method: str, *, data: str = "tinyworld/objects", shots: int = 2, protocol: str = "few_shot", **options):
        key = f"{method} {data} {shots} {protocol} {sorted(options.items())}"
        if key not in made:
            source = DataSpec(data, shots=shots, seed=1, classes="base" if protocol == "base2new" else "all")
            once = {"epochs": 1} if "epochs" in describe(method.split("+")[0]).options else {}
            spec = RunSpec(method, source, protocol, options={**once, **options})
            folder = place / str(len(made))
            protocols.run(spec, folder)
            made[key] = folder
        return made[key]

    return run


@pytest.fixture(scope="session")
def opened(runs):
    """As `runs`, opened to look at 24 images."""
    return lambda method, images=24, **options: OpenedRun.open(runs(method, **options), images=images)
