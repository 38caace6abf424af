"""The plain parameterisation: every entry learns."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

Parameterisation = Callable[[Tensor], nn.Module]
"""Makes a module from the start of a matrix; its forward returns the matrix, float32, same shape."""


class FullRank(nn.Module):
    """A matrix all of whose entries learn.

    Args:
        start: any shape; copied, float32.
    Returns (forward): the matrix, same shape, float32.
    """

    def __init__(self, start: Tensor) -> None:
        super().__init__()
        self.value = nn.Parameter(start.detach().clone().float())

    def forward(self) -> Tensor:
        return self.value
