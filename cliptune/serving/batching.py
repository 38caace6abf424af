"""Pictures of many requests answered together."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

T = TypeVar("T")
Answer = Callable[[np.ndarray], tuple[tuple[str, ...], np.ndarray]]
"""Prepared pictures (B, 3, R, R) uint8 → class names (C) and probabilities (B, C)."""


class Busy(RuntimeError):
    """More pictures are waiting than the server keeps."""


@dataclass
class _Waiting:
    prepared: np.ndarray
    future: asyncio.Future[tuple[tuple[str, ...], np.ndarray]]


class Batcher:
    """One thread that answers; whatever arrives while it works is its next batch.

    Args:
        answer: is called in that thread, with at most `most` pictures.
        most: pictures of a batch.
        wait: seconds that a picture which arrives alone waits for others.
        waiting: pictures that may wait.
        together: seconds that a batch which is not full waits for pictures that are on their way (`expecting`). A call
            of the model has a price of its own, and many small batches cost more than they gain.
    """

    def __init__(
        self, answer: Answer, most: int = 32, wait: float = 0.003, waiting: int = 4096, together: float = 0.1
    ) -> None:
        self._answer, self._most, self._wait, self._together = answer, most, wait, together
        self._coming = 0
        self._changed = asyncio.Event()
        self._queue: asyncio.Queue[_Waiting] = asyncio.Queue(waiting)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="cliptune-answer")
        self._task: asyncio.Task[None] | None = None

    @property
    def waiting(self) -> int:
        """Pictures that wait for a batch."""
        return self._queue.qsize()

    def start(self) -> None:
        self._task = asyncio.create_task(self._work())

    async def stop(self) -> None:
        """After what waits was answered."""
        while self._queue.qsize():
            await asyncio.sleep(0.01)
        if self._task is not None:
            self._task.cancel()
        self._thread.shutdown(wait=True)

    @contextmanager
    def expecting(self) -> Iterator[None]:
        """While a picture is prepared that will be asked about next."""
        self._coming += 1
        try:
            yield
        finally:
            self._coming -= 1
            self._changed.set()

    async def ask(self, prepared: np.ndarray) -> tuple[tuple[str, ...], np.ndarray]:
        """One prepared picture (3, R, R) → class names and its probabilities (C,).

        Raises: Busy; whatever `answer` raises.
        """
        waiting = _Waiting(prepared, asyncio.get_running_loop().create_future())
        try:
            self._queue.put_nowait(waiting)
        except asyncio.QueueFull as error:
            raise Busy(f"{self._queue.qsize():,} pictures are waiting already. Try again in a moment.") from error
        self._changed.set()
        return await waiting.future

    async def call(self, function: Callable[[], T]) -> T:
        """Something else in the thread that answers, between two batches."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, function)

    async def _work(self) -> None:
        while True:
            gathered = await self._gathered()
            batch = [
                waiting for waiting in gathered if not waiting.future.done()
            ]  # nobody waits for the others any more
            if batch:
                await self._answered(batch)

    async def _gathered(self) -> list[_Waiting]:
        """What is there, and what comes in time."""
        batch = [await self._queue.get()]
        if self._queue.empty() and not self._coming:
            await asyncio.sleep(self._wait)
        loop = asyncio.get_running_loop()
        end = loop.time() + self._together
        timer = loop.call_at(end, self._changed.set)
        while len(batch) < self._most:
            if not self._queue.empty():
                batch.append(self._queue.get_nowait())
            elif self._coming and loop.time() < end:
                self._changed.clear()
                await self._changed.wait()
            else:
                break
        timer.cancel()
        return batch

    async def _answered(self, batch: list[_Waiting]) -> None:
        try:
            names, rows = await self.call(lambda: self._answer(np.stack([waiting.prepared for waiting in batch])))
        except Exception as error:  # told to everyone who waits; the next batch is another matter
            for waiting in batch:
                if not waiting.future.done():
                    waiting.future.set_exception(error)
            return
        for waiting, row in zip(batch, rows, strict=True):
            if not waiting.future.done():
                waiting.future.set_result((names, row))
