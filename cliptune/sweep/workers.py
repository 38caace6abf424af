"""Cells of a grid in several processes of one thread each; one that dies takes no other with it."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

import torch

from cliptune.sweep.cells import Cell
from cliptune.sweep.running import Outcome, run_cell
from cliptune.sweep.sharing import Waiting

_ATTEMPTS = 2


@dataclass
class _Worker:
    process: BaseProcess
    connection: Connection
    cell: Cell | None = None


def run_in_workers(cells: Sequence[Cell], workers: int) -> Iterator[Outcome]:
    """Outcomes as they come. A cell whose process dies is taken up once more, where its folder left off.

    Args:
        cells: runs with folders of their own.
        workers: processes, at least 1.
    """
    # Forked processes cannot use a CUDA card that the parent has used, nor rely on the locks of its threads.
    context = multiprocessing.get_context("spawn")
    waiting = Waiting(cells)
    tries: dict[str, int] = {}
    team: list[_Worker] = []
    try:
        while waiting or any(worker.cell for worker in team):
            while waiting and len(team) < workers:
                team.append(_hired(context))
            for worker in team:
                if worker.cell is None:
                    worker.cell = waiting.take()
                    # A process that has died meanwhile is noticed below, where its answer is read.
                    with suppress(OSError):
                        if worker.cell is not None:
                            worker.connection.send(worker.cell)
            answering = wait([worker.connection for worker in team if worker.cell is not None])
            for worker in [worker for worker in team if worker.connection in answering]:
                cell = worker.cell
                if cell is None:
                    continue
                try:
                    outcome = worker.connection.recv()
                except (EOFError, OSError):
                    team.remove(worker)
                    worker.process.join()
                    name = str(cell.folder)
                    tries[name] = tries.get(name, 0) + 1
                    if tries[name] < _ATTEMPTS:
                        waiting.give_back(cell)
                        continue
                    outcome = Outcome(cell, error=_died(worker.process.exitcode))
                else:
                    worker.cell = None
                waiting.ended(cell)
                yield outcome
    finally:
        _dismiss(team)


def _hired(context: multiprocessing.context.SpawnContext) -> _Worker:
    ours, theirs = context.Pipe()
    process = context.Process(target=_work, args=(theirs,))
    process.start()
    theirs.close()  # so that the end of the process is the end of the connection
    return _Worker(process, ours)


def _work(connection: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to answer
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(1)
    while True:
        try:
            cell = connection.recv()
        except EOFError:
            return
        connection.send(run_cell(cell))


def _end_with_parent() -> None:
    """A worker that outlived its parent would keep the run's folder locked against the next call."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


def _dismiss(team: Sequence[_Worker]) -> None:
    for worker in team:
        worker.connection.close()
        worker.process.terminate()
    for worker in team:
        worker.process.join()


def _died(exit_code: int | None) -> str:
    return (
        f"The process that ran it ended twice without a word (exit code {exit_code}). Often the system stops a process "
        "that needs more memory than there is: use fewer workers, or a smaller batch."
    )
