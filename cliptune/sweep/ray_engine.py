"""Cells of a grid as tasks of a Ray cluster: the same run folders, on a file system that all nodes share."""

from __future__ import annotations

import logging
import os
import platform
import socket
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from importlib import import_module
from typing import Any
from urllib.parse import urlsplit

import torch

from cliptune.sweep.cells import Cell
from cliptune.sweep.running import Outcome, run_cell
from cliptune.sweep.sharing import Waiting
from cliptune.variables import FEATURES

# A node that is taken away again and again, as cheap ones are, must not cost a run that resumes each time.
RETRIES = 3
# Errors of Ray that stand for a lost worker or node; the rest are about the cluster itself.
_LOST = ("WorkerCrashedError", "NodeDiedError", "LocalRayletDiedError", "OutOfMemoryError")
_SECONDS_TO_ANSWER, _SECONDS_TO_END = 5.0, 10.0


@dataclass
class RayEngine:
    """Runs cells as Ray tasks.

    Args:
        address: of a running cluster: "auto" for the one that this machine belongs to, "host:port" of its head, or
            "ray://host:port" from outside. None does what Ray does: the cluster that RAY_ADDRESS names or that was
            started last on this machine, or else one of its own on this machine alone.
        cpus_per_run: CPUs that a run reserves, > 0; it computes in as many threads, at least one.
        gpus_per_run: cards that a run reserves, such as 0.5 for two runs on one card; 0 keeps runs on the CPU.

    Attributes:
        side_by_side: runs that the cluster can hold at once, known when it is connected.
    Raises (when run): ImportError without Ray; ConnectionError if no cluster answers; OSError if the path of Ray's
        temporary folder is too long for sockets; ValueError if a run fits on none of the nodes.
    """

    address: str | None = None
    cpus_per_run: float = 1
    gpus_per_run: float = 0
    side_by_side: int = field(default=1, init=False)

    def __post_init__(self) -> None:
        for name, value, fits in (
            ("cpus_per_run", self.cpus_per_run, self.cpus_per_run > 0),
            ("gpus_per_run", self.gpus_per_run, self.gpus_per_run >= 0),
        ):
            if not fits or (value > 1 and value != int(value)):
                raise ValueError(f"bench: {name} must be a part of one, or a whole number, got {value:g}.")

    def run(self, cells: Sequence[Cell]) -> Iterator[Outcome]:
        """Outcomes as they come. A cell whose process or node dies is taken up again, where its folder left off.

        What is under way is cancelled if the caller stops early; the folders keep what is done.
        """
        ray = _ray()
        ours = not ray.is_initialized()
        if ours:
            self._connect(ray)
        try:
            self.side_by_side = self._room(ray.nodes())
            yield from self._outcomes(ray, cells)
        finally:
            if ours:
                ray.shutdown()

    def _outcomes(self, ray: Any, cells: Sequence[Cell]) -> Iterator[Outcome]:
        threads = max(1, int(self.cpus_per_run))
        reserved = {"num_cpus": self.cpus_per_run, "num_gpus": self.gpus_per_run, "max_retries": RETRIES}
        task = ray.remote(_work)
        waiting = Waiting(cells)
        under_way: dict[Any, Cell] = {}
        try:
            while waiting or under_way:
                while (cell := waiting.take()) is not None:
                    # Where a node does not see this folder, the run would be lost on it.
                    cell.folder.mkdir(parents=True, exist_ok=True)
                    named = task.options(name=cell.title, **reserved)
                    told = (threads, os.getcwd(), os.environ.get(FEATURES))
                    under_way[named.remote(self._on_a_node(cell), *told)] = cell
                answered, _ = ray.wait(list(under_way))
                for asked in answered:
                    cell = under_way.pop(asked)
                    try:
                        outcome = replace(ray.get(asked), cell=cell)
                    except ray.exceptions.RayTaskError as error:
                        outcome = Outcome(cell, error=f"Its node could not begin it: {_last_line(error)}")
                    except ray.exceptions.RayError as error:
                        outcome = Outcome(cell, error=_given_up(error))
                    waiting.ended(cell)
                    yield outcome
        finally:
            for asked in under_way:
                ray.cancel(asked, force=True)
            # Until they have ended they hold their folders, which the same command may ask for at once.
            if under_way:
                ray.wait(list(under_way), num_returns=len(under_way), timeout=_SECONDS_TO_END)

    def _on_a_node(self, cell: Cell) -> Cell:
        """A card of this machine says nothing about those of a node; Ray gives each run what it reserved."""
        device = "cuda" if self.gpus_per_run else "cpu"
        spec = replace(cell.spec, training={"device": device, **cell.spec.training})
        return replace(cell, spec=spec)

    def _connect(self, ray: Any) -> None:
        address = self.address or os.environ.get("RAY_ADDRESS")
        if address is not None:
            _check_answers(address)
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # read by a cluster that is started here
        try:
            ray.init(address=self.address, logging_level=logging.ERROR, log_to_driver=False)
        except ConnectionError as error:
            raise ConnectionError(_unreachable(address or "auto", str(error).splitlines()[0])) from error
        except OSError as error:
            if "AF_UNIX" not in str(error):
                raise
            raise OSError(
                f"bench: Ray cannot make its sockets below its temporary folder ({error}). Set RAY_TMPDIR to a folder "
                "with a short path, such as /tmp, or start a cluster with `ray start --head` and give --address."
            ) from error

    def _room(self, nodes: Sequence[dict[str, Any]]) -> int:
        """How many runs fit on the living nodes. Raises: ValueError if there is none that one fits on."""
        wanted = {"CPU": self.cpus_per_run, "GPU": self.gpus_per_run}
        offers = [node["Resources"] for node in nodes if node["Alive"]]
        room = sum(
            min(int(offer.get(kind, 0) / amount + 1e-9) for kind, amount in wanted.items() if amount)
            for offer in offers
        )
        if room:
            return room
        found = "; ".join(f"{offer.get('CPU', 0):g} CPUs and {offer.get('GPU', 0):g} GPUs" for offer in offers)
        raise ValueError(
            f"bench: a run reserves {self.cpus_per_run:g} CPUs and {self.gpus_per_run:g} GPUs, and no node of the "
            f"cluster has as many (they have {found or 'nothing'}). Lower --cpus-per-run or --gpus-per-run, or add a "
            "larger node."
        )


def _work(cell: Cell, threads: int, directory: str, features: str | None) -> Outcome:
    """On a node, in a process of its own."""
    if features is not None:  # asked for, or not, where the command was given
        os.environ[FEATURES] = features
    torch.set_num_threads(threads)
    with suppress(OSError):  # so that relative paths among the options mean what they mean where they were typed
        os.chdir(directory)
    if not cell.folder.is_dir():
        return Outcome(
            cell,
            error=f"Node {platform.node()} does not see the run's folder {cell.folder}. Put --out on a file system "
            "that all nodes of the cluster share, under the same path.",
        )
    outcome = run_cell(cell)
    return outcome if outcome.error is None else replace(outcome, error=f"On node {platform.node()}: {outcome.error}")


def _ray() -> Any:
    try:
        return import_module("ray")
    except ImportError as error:
        raise ImportError(
            "bench: the engine ray was asked for, but Ray is not installed. Install it here and on all nodes with "
            "`pip install 'cliptune[ray]'`, or use --engine local."
        ) from error


def _check_answers(address: str) -> None:
    """Ray itself keeps trying for minutes. Raises: ConnectionError if nobody listens at host:port; ValueError if that
    is not what the address says.
    """
    at = urlsplit(address if "://" in address else f"ray://{address}")
    try:
        port = at.port
    except ValueError as error:
        raise ValueError(
            f"bench: --address must be auto, host:port or ray://host:port with a port from 0 to 65535, got {address!r}."
        ) from error
    if at.hostname is None or port is None:  # a word such as "auto" or "local"
        return
    try:
        socket.create_connection((at.hostname, port), _SECONDS_TO_ANSWER).close()
    except OSError as error:
        raise ConnectionError(_unreachable(address, str(error))) from error


def _unreachable(address: str, why: str) -> str:
    return (
        f"bench: no Ray cluster answers at {address} ({why}). Start one with `ray start --head` and give the address "
        "that it prints, or leave --address out to use this machine alone."
    )


def _given_up(error: Exception) -> str:
    """What Ray says when it does not try again."""
    kind = type(error).__name__
    if kind in _LOST:
        return (
            f"The process or node that ran it was lost {RETRIES + 1} times ({kind}). Often a node has too little "
            "memory for so many runs side by side: raise --cpus-per-run."
        )
    told = str(error).strip().splitlines()
    return (
        f"Ray gave it up ({kind}{': ' + told[0] if told else ''}). What was done is kept in its folder: the same "
        "command takes it up again."
    )


def _last_line(error: Exception) -> str:
    """Of a traceback from a node: what went wrong."""
    return str(error).strip().splitlines()[-1]
