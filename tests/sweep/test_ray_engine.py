"""A grid on a Ray cluster of two nodes, on this machine, gives what it gives here, whatever happens to its workers."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from cliptune.data import DataSpec
from cliptune.runs import read_result
from cliptune.runs.file_names import WEIGHTS
from cliptune.sweep.bench import grid_rows, run_grid
from cliptune.sweep.cells import Cell
from cliptune.sweep.grid import Sweep
from cliptune.sweep.ray_engine import RayEngine

FISHES = DataSpec("tinyworld/fishes", options={"train": 4, "val": 0, "test": 5})
# Ray's sockets lie below its folder, in paths of at most 107 bytes, of which it needs about 70 for names of its own.
SHORT = 24


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """Of a cluster of two nodes with room for one run each."""
    pytest.importorskip("ray")
    place = tempfile.mkdtemp(prefix="ray-", dir=None if len(tempfile.gettempdir()) < SHORT else "/tmp")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        # Not as the head's `temp_dir`: Ray's helper notes the address in the default folder all the same, and fails
        # where no other cluster has made that.
        patch.setenv("RAY_TMPDIR", place)
        patch.setenv("RAY_AUTH_MODE", "disabled")  # else a token in the home of whoever tests decides
        patch.delenv("RAY_ADDRESS", raising=False)
        try:
            cluster = two_nodes()
            yield cluster.address
            cluster.shutdown()
        finally:
            shutil.rmtree(place, ignore_errors=True)


def two_nodes() -> Any:
    from ray.cluster_utils import Cluster

    node = {"num_cpus": 1, "object_store_memory": 80 * 2**20, "include_dashboard": False, "include_log_monitor": False}
    cluster = started(lambda: Cluster(initialize_head=True, head_node_args={**node, "no_monitor": True}))
    started(lambda: cluster.add_node(**node))
    return cluster


def started(start: Callable[[], Any]) -> Any:
    """Ray gives its own parts a fixed time to come up, which on a busy machine may take some attempts."""
    for attempt in (1, 2):
        try:
            return start()
        except Exception as error:  # it has no kind of its own
            if "timed out during startup" not in str(error):
                raise
            if attempt == 2:
                pytest.skip(f"this machine is too busy to start a Ray cluster: {error}")
    return None


@pytest.fixture
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def cells(out: Path, *methods: str, source=FISHES, seeds=(1, 2), epochs: int = 40) -> list[Cell]:
    options = {"coop": {"epochs": epochs, "batch_size": 4}, "zeroshot": {}}
    options["coop+dpc"] = {**options["coop"], "dpc_epochs": 1}
    settled = lambda spec: replace(spec, options=options[spec.method])
    return Sweep("base2new", methods, [source], shots=[2], seeds=seeds, settled=settled).cells(out)


def holder(folder: Path) -> int | None:
    """The process that works in a run's folder: it has the folder open, to keep others out."""
    for entry in Path("/proc").glob("[0-9]*/fd/*"):
        try:
            if os.readlink(entry) == str(folder):
                return int(entry.parts[2])
        except OSError:
            continue
    return None


def kill_worker_in(folder: Path, killed: list[int]) -> None:
    """Kill the process that works in a folder, once it has trained there for an epoch."""
    worker, metrics = None, folder / "metrics.jsonl"
    while read_result(folder) is None:
        if worker is None and (folder / "config.yaml").exists():
            worker = holder(folder)
        if worker is not None and metrics.exists() and metrics.stat().st_size:
            os.kill(worker, signal.SIGKILL)
            killed.append(worker)
            return
        time.sleep(0.01)


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="finds the worker among the processes of Linux")
def test_two_nodes_and_a_killed_worker_give_the_serial_table(address, one_thread, tmp_path):
    here = run_grid(cells(tmp_path / "here", "coop+dpc", "coop"))
    asked = cells(tmp_path / "there", "coop+dpc", "coop")
    victim = asked[2].folder
    killed: list[int] = []
    killer = threading.Thread(target=kill_worker_in, args=(victim, killed), daemon=True)
    killer.start()
    seen, engine = [], RayEngine(address)
    there = run_grid(asked, ray=engine, watch=lambda outcome, done, total, left: seen.append((done, total)))
    killer.join()
    assert killed
    assert killed[0] != os.getpid()
    assert "Resuming after step" in (victim / "log.txt").read_text()
    assert engine.side_by_side == 2

    assert [outcome.error for outcome in there] == [None] * 4
    assert [outcome.cell for outcome in there] == asked
    assert seen == [(n, 4) for n in range(1, 5)]
    assert grid_rows(there) == grid_rows(here)
    for ours, theirs in zip(here, there, strict=True):
        assert (ours.cell.folder / WEIGHTS).read_bytes() == (theirs.cell.folder / WEIGHTS).read_bytes()
    assert read_result(asked[0].folder)["continues"]["method"] == "coop"


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="finds the worker among the processes of Linux")
def test_an_interruption_ends_what_is_under_way(address, tmp_path):
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    quick, long = cells(tmp_path, "zeroshot", "coop", seeds=[1], epochs=10_000)
    with pytest.raises(KeyboardInterrupt):
        run_grid([quick, long], ray=RayEngine(address), watch=interrupt)
    assert read_result(quick.folder) is not None
    assert holder(long.folder) is None
    assert run_grid([quick], ray=RayEngine(address))[0].before


def test_data_that_a_node_does_not_have_fails_its_own_cell(address, tmp_path):
    lost, found = run_grid(
        [*cells(tmp_path, "zeroshot", source=DataSpec("nowhere"), seeds=[1]), *cells(tmp_path, "zeroshot", seeds=[1])],
        ray=RayEngine(address),
    )
    assert found.error is None
    assert str(lost.error).startswith("On node ")
    assert "Data 'nowhere'" in str(lost.error)


def test_a_run_too_large_for_every_node_is_a_sentence(address, tmp_path):
    asked = cells(tmp_path, "zeroshot", seeds=[1])
    for engine in (RayEngine(address, cpus_per_run=2), RayEngine(address, gpus_per_run=0.5)):
        with pytest.raises(ValueError, match=r"no node of the cluster has as many \(they have 1 CPUs and 0 GPUs; 1"):
            run_grid(asked, ray=engine)
    assert not list(tmp_path.iterdir())


def test_what_ray_gives_up_says_whether_it_was_lost(monkeypatch, tmp_path):
    """Stands in for a cluster on which every task ends in an error of Ray's own."""
    errors = pytest.importorskip("ray").exceptions
    (cell,) = cells(tmp_path, "zeroshot", seeds=(1,))

    class Task:
        def options(self, **reserved):
            assert reserved["max_retries"] == 3
            return self

        def remote(self, *given):
            return "asked"

    class Ray:
        exceptions = errors

        def __init__(self, error):
            self.error = error

        def remote(self, work):
            return Task()

        def wait(self, asked, **limits):
            return asked, []

        def get(self, asked):
            raise self.error

    for error, sentence in (
        (errors.WorkerCrashedError(), r"lost 4 times \(WorkerCrashedError\).*raise --cpus-per-run"),
        (errors.OutOfMemoryError("full"), r"lost 4 times \(OutOfMemoryError\)"),
        (errors.RaySystemError("no store"), r"Ray gave it up \(RaySystemError: .*no store.*the same command"),
    ):
        (outcome,) = RayEngine()._outcomes(Ray(error), [cell])
        assert re.search(sentence, str(outcome.error)), outcome.error


def test_runs_that_share_a_card_are_counted():
    nodes = [
        {"Alive": True, "Resources": {"CPU": 8.0, "GPU": 2.0}},
        {"Alive": True, "Resources": {"CPU": 1.0, "GPU": 4.0}},
        {"Alive": False, "Resources": {"CPU": 64.0, "GPU": 8.0}},
    ]
    assert RayEngine(gpus_per_run=0.5)._room(nodes) == 4 + 1
    assert RayEngine(cpus_per_run=0.25, gpus_per_run=0.1)._room(nodes) == 20 + 4
    assert RayEngine()._room(nodes) == 8 + 1


def test_a_cluster_that_does_not_answer_is_a_sentence_at_once(tmp_path):
    pytest.importorskip("ray")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and nobody listens
        nobody = f"127.0.0.1:{taken.getsockname()[1]}"
        for at in (nobody, f"ray://{nobody}"):
            started = time.monotonic()
            with pytest.raises(ConnectionError, match="no Ray cluster answers at .*ray start --head"):
                run_grid(cells(tmp_path, "zeroshot"), ray=RayEngine(at))
            assert time.monotonic() - started < 30  # without asking first, Ray tries for minutes


def test_an_address_without_a_port_that_can_be_is_a_sentence(tmp_path):
    pytest.importorskip("ray")
    with pytest.raises(ValueError, match="--address must be auto, host:port or ray://host:port.*'HEAD:abc'"):
        run_grid(cells(tmp_path, "zeroshot"), ray=RayEngine("HEAD:abc"))


def test_a_temporary_folder_too_deep_for_sockets_is_a_sentence(tmp_path, monkeypatch):
    pytest.importorskip("ray")
    deep = tmp_path / ("d" * 90)
    deep.mkdir()
    monkeypatch.setenv("RAY_TMPDIR", str(deep))
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")  # a cluster of one's own else leaves a token in the home
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with pytest.raises(OSError, match="Ray cannot make its sockets.*d/ray/.*RAY_TMPDIR to a folder with a short"):
        run_grid(cells(tmp_path, "zeroshot"), ray=RayEngine())


def test_without_ray_the_sentence_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ImportError, match=r"pip install 'cliptune\[ray\]'"):
        run_grid(cells(tmp_path, "zeroshot"), ray=RayEngine())


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"cpus_per_run": 0}, "cpus_per_run must be a part of one, or a whole number, got 0"),
        ({"gpus_per_run": -1}, "gpus_per_run must be"),
        ({"gpus_per_run": 1.5}, "gpus_per_run must be a part of one, or a whole number, got 1.5"),
    ],
)
def test_impossible_shares_are_refused(settings, sentence):
    with pytest.raises(ValueError, match=sentence):
        RayEngine(**settings)
