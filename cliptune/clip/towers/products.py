"""Products with frozen weights, and CLIP's activation, in the passes over memory that they need and no more."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# Multiplications below which a call of another kernel costs more than it wins.
_LARGE = 2**24
_FACTOR = 1.702


@lru_cache(maxsize=1)
def other_kernel() -> bool:
    """Whether torch's oneDNN product of float32 matrices is there and is the faster one: with AVX-512.

    `F.linear` leaves float32 to MKL, whose kernels are a tenth slower on processors that are not Intel's. The choice
    rests on the processor, never on a measurement, so that runs repeat themselves bit for bit.
    """
    if not torch.backends.mkldnn.is_available() or torch.backends.cpu.get_cpu_capability() != "AVX512":
        return False
    try:
        found = _by_onednn(torch.ones(2, 3), torch.ones(4, 3), torch.ones(4))
    except (AttributeError, RuntimeError, TypeError):  # an operator of torch's compiler, which may change
        return False
    return torch.equal(found, torch.full((2, 4), 4.0))


def kernel() -> str:
    """Which kernel large float32 products with features use here, as a word: "oneDNN" or "torch"."""
    return "oneDNN" if other_kernel() else "torch"


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None, moving: slice | None = None) -> Tensor:
    """(..., T, a) → (..., T, b) by a frozen map (b, a), as `F.linear`; learnable weights get their gradient.

    Args: moving: the rows of T that anything learned has reached, which alone are given a gradient; None for all.
    """
    if moving is not None and _recorded(x) and not (weight.requires_grad or _traced(x)):
        return cast(Tensor, _FrozenLinear.apply(x, weight, bias, moving))
    if _suits(x, weight, bias):
        return cast(Tensor, _FrozenLinear.apply(x, weight, bias, None)) if _recorded(x) else _by_onednn(x, weight, bias)
    return F.linear(x, weight, bias)


def learned_linear(x: Tensor, weight: Tensor) -> Tensor:
    """(…, a) → (…, b) by a map (b, a) that may learn, as `F.linear` without bias; both get their gradient."""
    if not gains(x, weight):
        return F.linear(x, weight)
    if _recorded(x) or _recorded(weight):
        # As a matrix: of more axes the kernel's answer is a view, which nobody could go on with in place.
        flat = cast(Tensor, _LearnedLinear.apply(x.flatten(0, -2), weight))
        return flat.view(*x.shape[:-1], len(weight))
    return _by_onednn(x, weight, None)


def gains(x: Tensor, weight: Tensor) -> bool:
    """Whether `learned_linear` has another kernel for these than `F.linear`, and a faster one."""
    return _suits(x, weight.detach(), None)


def _suits(x: Tensor, weight: Tensor, bias: Tensor | None) -> bool:
    if _traced(x) or x.device.type != "cpu" or x.numel() * weight.shape[0] < _LARGE:
        return False
    learns = weight.requires_grad or (bias is not None and bias.requires_grad)
    return not learns and x.dtype == weight.dtype == torch.float32 and other_kernel()


def _recorded(x: Tensor) -> bool:
    return torch.is_grad_enabled() and x.requires_grad


def _traced(x: Tensor) -> bool:
    """Whether somebody writes down what is computed, and has to see torch's own operators."""
    return torch.compiler.is_compiling() or torch.jit.is_tracing() or type(x) not in (Tensor, nn.Parameter)


def _by_onednn(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    out: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return out


class _FrozenLinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, moving: slice | None) -> Tensor:
        ctx.save_for_backward(weight)
        ctx.moving = moving
        return linear(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        (weight,) = ctx.saved_tensors
        if ctx.moving is None:
            return linear(gradient, weight.mT), None, None, None
        rows = range(gradient.shape[-2])[ctx.moving]
        found = linear(gradient[..., ctx.moving, :], weight.mT)
        before, behind = rows.start, gradient.shape[-2] - rows.stop
        return F.pad(found, (0, 0, before, behind)), None, None, None


class _LearnedLinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return _by_onednn(x, weight, None)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        of_x, of_weight = ctx.needs_input_grad
        return (
            gradient @ weight if of_x else None,
            # Both with the images as the inner axis, for which torch's own kernel is as fast.
            gradient.mT @ x if of_weight else None,
        )


class FrozenLinear(nn.Linear):
    """`nn.Linear` that goes through `linear`."""

    def forward(self, x: Tensor) -> Tensor:
        return linear(x, self.weight, self.bias)


class QuickGELU(nn.Module):
    """u · sigmoid(1.702 u), the activation OpenAI's CLIP was trained with.

    Computed as silu(1.702 u) / 1.702, which torch does in one pass over memory, its derivative likewise.
    """

    def forward(self, u: Tensor) -> Tensor:
        if _traced(u):
            return u * torch.sigmoid(_FACTOR * u)
        return cast(Tensor, _QuickGELU.apply(u)) if _recorded(u) else _quick_gelu(u)


class _QuickGELU(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, u: Tensor) -> Tensor:
        ctx.save_for_backward(u)
        return _quick_gelu(u)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (u,) = ctx.saved_tensors
        if torch.is_grad_enabled():  # somebody asks for the second derivative, which the kernel has not
            s = torch.sigmoid(_FACTOR * u)
            return cast(Tensor, gradient * s * (1 + _FACTOR * u * (1 - s)))
        found: Tensor = torch.ops.aten.silu_backward(gradient, _FACTOR * u)
        return found


def _quick_gelu(u: Tensor) -> Tensor:
    return F.silu(_FACTOR * u, inplace=True).mul_(1 / _FACTOR)
