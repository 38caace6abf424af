"""A matrix that may only move in few directions from where it starts."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Start = Literal["gaussian", "zero"]
STARTS = ("gaussian", "zero")
# The paper says "small Gaussians"; this is the standard deviation that the CoOp family starts its prompts with.
STD = 0.02


class LowRank(nn.Module):
    """Matrix of limited rank over a frozen start: P = P_0 + dropout(A B).

    Args:
        start: P_0, (*lead, n, d); frozen, and kept with the learnables, so that a file holds n d + r (n + d) values of
            which r (n + d) learn. Deeper prompts start at random, and a seed would draw the same numbers only with the
            same version of torch; a start of words could be had from CLIP again, but `dpc` and released checkpoints put
            other ones in its place, and a file that is always whole is never read wrongly. With leading sizes (one
            matrix per class), A and B have them too.
        rank: r, 1 ≤ r ≤ min(n, d). Learnable values: r (n + d) per matrix.
        dropout: probability in [0, 1), applied to the entries of A B in training; identity in evaluation.
        factors: "gaussian" draws A and B from N(0, 0.02²); "zero" draws A alone, so that P = P_0 at first. Never are
            both zero, where no gradient would ever come.
        right: B, to share it with other matrices of the same width; None for one of its own.
    Returns (forward): the shape of `start`, float32.
    Raises: ValueError if a number is out of range or the shared factor does not fit.
    Source: RLP (arXiv:2312.10813); dropout and start as far as the paper states them.
    """

    start: Tensor

    def __init__(
        self,
        start: Tensor,
        rank: int = 1,
        dropout: float = 0.0,
        factors: Start = "gaussian",
        right: nn.Parameter | None = None,
    ) -> None:
        super().__init__()
        if start.ndim < 2:
            raise ValueError(f"LowRank: a matrix (n, d) is needed, got shape {tuple(start.shape)}. Use FullRank.")
        *lead, n, d = start.shape
        if not 1 <= rank <= min(n, d):
            raise ValueError(
                f"LowRank: rank must be between 1 and min(n, d) = {min(n, d)}, got {rank} for a matrix of shape "
                f"{(n, d)}. Use a smaller rank, more tokens, or the method without low rank."
            )
        if not 0 <= dropout < 1:
            raise ValueError(f"LowRank: dropout must be in [0, 1), got {dropout}.")
        if factors not in STARTS:
            raise ValueError(f"LowRank: the factors may start at one of {', '.join(STARTS)}, got {factors!r}.")
        if right is not None and right.shape != (rank, d):
            raise ValueError(
                f"LowRank: a shared factor for rank {rank} and width {d} must have shape {(rank, d)}, "
                f"got {tuple(right.shape)}."
            )
        self.rank, self.dropout = rank, dropout
        self.register_buffer("start", start.detach().clone().float())
        self.left = nn.Parameter(STD * torch.randn(*lead, n, rank))
        if right is None:
            drawn = torch.randn(*lead, rank, d) if factors == "gaussian" else torch.zeros(*lead, rank, d)
            right = nn.Parameter(STD * drawn)
        self.right = right

    def forward(self) -> Tensor:
        return self.start + F.dropout(self.left @ self.right, self.dropout, self.training)

    @torch.no_grad()
    def merged(self) -> Tensor:
        """P_0 + A B as one matrix, without dropout."""
        return self.start + self.left @ self.right

    @torch.no_grad()
    def restart(self, start: Tensor) -> None:
        """Begin again at another P_0, with a new A and a zero B: at first the matrix is `start` exactly."""
        self.start.copy_(start)
        self.left.copy_(STD * torch.randn(self.left.shape))
        self.right.zero_()

    @torch.no_grad()
    def approach(self, matrix: Tensor) -> None:
        """Let A B be the matrix of this rank that is nearest to one of the shape of P_0 (truncated singular value
        decomposition, with the root of each singular value in either factor).
        """
        left, values, right = torch.linalg.svd(matrix.float(), full_matrices=False)
        root = values[..., : self.rank].sqrt()
        self.left.copy_(left[..., : self.rank] * root[..., None, :])
        self.right.copy_(root[..., :, None] * right[..., : self.rank, :])
