"""One run on several processes (`torchrun`), giving the numbers of one process."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

T = TypeVar("T")


@dataclass(frozen=True)
class Processes:
    """The processes that share a run.

    Args:
        device: where this one computes.
        rank: 0 … world − 1; only rank 0 writes files.
        world: how many there are.
    """

    device: torch.device
    rank: int = 0
    world: int = 1

    @property
    def main(self) -> bool:
        return self.rank == 0

    def share(self, n: int) -> slice:
        """The part of a batch of n images that this process computes; parts differ by at most one image.

        Raises: ValueError if there are fewer images than processes.
        """
        if n < self.world:
            raise ValueError(
                f"A batch of {n} images cannot be shared by {self.world} processes. "
                "Use a larger batch size or fewer processes."
            )
        return slice(n * self.rank // self.world, n * (self.rank + 1) // self.world)

    def from_main(self, compute: Callable[[], T]) -> T:
        """Compute on rank 0 only; every process gets the value, or raises the error."""
        if self.world == 1:
            return compute()
        answer: list[object] = [None, None]
        if self.main:
            try:
                answer[0] = compute()
            except Exception as error:  # not swallowed: raised below, on every process
                answer[1] = error
        distributed.broadcast_object_list(answer, src=0, device=self.device if self.device.type == "cuda" else None)
        if isinstance(answer[1], Exception):
            raise answer[1]
        return answer[0]  # type: ignore[return-value]

    def wrap(self, module: nn.Module) -> nn.Module:
        """Average gradients over the processes after each backward pass."""
        if self.world == 1:
            return module
        # A learnable may be out of reach in one step, and the frozen buffers never change.
        return DistributedDataParallel(
            module,
            device_ids=[self.device] if self.device.type == "cuda" else None,
            broadcast_buffers=False,
            find_unused_parameters=True,
        )

    def local(self, module: nn.Module) -> AbstractContextManager[None]:
        """Within this, a wrapped module's backward pass adds gradients without averaging them yet."""
        return module.no_sync() if isinstance(module, DistributedDataParallel) else nullcontext()

    def total(self, value: Tensor) -> Tensor:
        """The sum of a tensor over all processes."""
        if self.world > 1:
            value = value.clone()
            distributed.all_reduce(value)
        return value

    def gather(self, part: Tensor) -> Tensor:
        """(b, …) of each process, detached → (Σ b, …) on all of them, in the order of the ranks."""
        if self.world == 1:
            return part
        sizes = [torch.zeros(1, dtype=torch.int64, device=self.device) for _ in range(self.world)]
        distributed.all_gather(sizes, torch.tensor([len(part)], device=self.device))
        counts = [int(size) for size in sizes]
        padded = part.new_zeros((max(counts), *part.shape[1:]))
        padded[: len(part)] = part.detach()
        parts = [torch.empty_like(padded) for _ in counts]
        distributed.all_gather(parts, padded)
        return torch.cat([full[:count] for full, count in zip(parts, counts, strict=True)])


@contextmanager
def processes(device: torch.device | str | None = None) -> Iterator[Processes]:
    """The processes of this run: all that `torchrun` started, or just this one.

    Args:
        device: where to compute; None takes a CUDA card (each process its own) if there is one, else the CPU.
    """
    launched = "RANK" in os.environ and "WORLD_SIZE" in os.environ and "MASTER_ADDR" in os.environ
    started_here = False
    if device is None:
        device = "cuda" if torch.cuda.is_available() else "cpu"
    device = torch.device(device)
    if device.type == "cuda" and device.index is None:
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", torch.cuda.current_device())))
    if device.type == "cuda":
        torch.cuda.set_device(device)
    if launched and not distributed.is_initialized():
        distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
        started_here = True
    try:
        if distributed.is_available() and distributed.is_initialized():
            yield Processes(device, distributed.get_rank(), distributed.get_world_size())
        else:
            yield Processes(device)
    finally:
        if started_here:
            distributed.destroy_process_group()
