"""The transformer block that both towers are made of."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from functools import partial
from typing import Protocol, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cliptune.clip.deltas import Delta, added
from cliptune.clip.towers.products import FrozenLinear, QuickGELU, linear

Tap = Callable[[Tensor, Tensor], Tensor | None]
UNCHANGED: Mapping[str, Delta] = {}
UNMOVED: Mapping[str, Tensor] = {}


def gaussian(*shape: int, std: float) -> nn.Parameter:
    """Random start of zero mean; left empty on the meta device, where checkpoints are fitted.

    Drawing there changes nothing, but would import torch's compiler, which takes seconds.
    """
    values = torch.empty(shape)
    return nn.Parameter(values if values.is_meta else values.normal_(std=std))


ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {"quick_gelu": QuickGELU, "gelu": nn.GELU}
# What configurations of other models declare beside those.
_MORE_ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {"gelu_tanh": partial(nn.GELU, approximate="tanh")}
LAYER_NORM_EPS = 1e-5


def normed(norm: nn.LayerNorm, x: Tensor, moved: Mapping[str, Tensor] = UNMOVED) -> Tensor:
    """A frozen LayerNorm of x (..., d), with (d,) added to its "scale" and "shift"."""
    if not moved:
        out: Tensor = norm(x)
        return out
    scale, shift = (
        frozen if (added := moved.get(part)) is None else frozen + added.to(frozen.dtype)
        for frozen, part in ((norm.weight, "scale"), (norm.bias, "shift"))
    )
    return F.layer_norm(x, norm.normalized_shape, scale, shift, norm.eps)


def projected(row: Tensor, frozen: Tensor, added: Tensor | None) -> Tensor:
    """(..., d) by a frozen map (d, D), and what is added to it."""
    out = row @ frozen
    return out if added is None else out + row @ added.to(row.dtype)


def with_inserted(x: Tensor, rows: Tensor, at: int, before: int, flow: float) -> Tensor:
    """Rows (N, n, d) in the sequence x (N, T, d) at a place, where `before` rows of the layer before may stand."""
    if before and flow:
        rows = rows + flow * x[:, at : at + before]
    return torch.cat([x[:, :at], rows.expand(x.shape[0], -1, -1), x[:, at + before :]], dim=1)


def norms_of(tower: nn.Module, pre: nn.LayerNorm | None, post: nn.LayerNorm) -> dict[tuple[int, str], nn.LayerNorm]:
    """(layer, site) → LayerNorm of a tower of `Block`s, in the order in which rows pass them."""
    blocks = cast(Transformer, tower.transformer).blocks
    found = {} if pre is None else {(0, "pre"): pre}
    for layer, block in enumerate(blocks):
        found |= {(layer, "attn"): block.ln_1, (layer, "mlp"): block.ln_2}
    return {**found, (len(blocks) - 1, "post"): post}


class Tapped(Protocol):
    """An attention whose `tap`, when set, is shown its weights and values."""

    tap: Tap | None


class Taps(Protocol):
    """A block with such an attention."""

    attn: Tapped


class Attention(nn.Module):
    """Multi-head attention whose queries and keys may be different rows.

    Args:
        width: d, divisible by `heads`.
        heads: number of heads.

    `tap`, when set, receives the attention weights (..., heads, Q, S) and the values (..., heads, S, d / heads), and
    makes the block use the plain softmax; what it gives back, (..., heads, Q, d / heads), stands in the place of the
    heads' output, unless that is None. When no tap is set the fused kernel runs and no weights exist.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.width, self.heads = width, heads
        self.in_proj_weight = gaussian(3 * width, width, std=width**-0.5)
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = FrozenLinear(width, width)
        self.tap: Tap | None = None

    def qkv(
        self, x: Tensor, deltas: Mapping[str, Delta] = UNCHANGED, moving: slice | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """(..., T, d) → query, key, value, each (..., T, d); `deltas` change the maps that make them.

        Args: moving: the rows of T that anything learned has reached; None for all.
        """
        q, k, v = linear(x, self.in_proj_weight, self.in_proj_bias, moving).chunk(3, dim=-1)
        return added(q, x, deltas, "q"), added(k, x, deltas, "k"), added(v, x, deltas, "v")

    def query(self, x: Tensor, deltas: Mapping[str, Delta] = UNCHANGED) -> Tensor:
        d = self.width
        return added(linear(x, self.in_proj_weight[:d], self.in_proj_bias[:d]), x, deltas, "q")

    def key_value(
        self, x: Tensor, deltas: Mapping[str, Delta] = UNCHANGED, moving: slice | None = None
    ) -> tuple[Tensor, Tensor]:
        """(..., S, d) → key, value, for rows that are only looked at; `moving` as in `qkv`."""
        d = self.width
        k, v = linear(x, self.in_proj_weight[d:], self.in_proj_bias[d:], moving).chunk(2, dim=-1)
        return added(k, x, deltas, "k"), added(v, x, deltas, "v")

    def split(self, x: Tensor) -> Tensor:
        """(..., T, d) → (..., heads, T, d / heads)."""
        return x.view(*x.shape[:-1], self.heads, -1).transpose(-3, -2)

    def weights(self, q: Tensor, k: Tensor, mask: Tensor | None = None) -> Tensor:
        """Queries (..., Q, d) over keys (..., S, d) → what each attends to, (..., heads, Q, S), rows summing to one."""
        q, k = self.split(q), self.split(k)
        scores: Tensor = (q * q.shape[-1] ** -0.5) @ k.mT
        return (scores if mask is None else scores + mask).softmax(dim=-1)

    def attend(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
        """Queries (..., Q, d) over keys and values (..., S, d) → (..., Q, d), before the output projection.

        Args:
            mask: (Q, S) added to the scores, −inf where a query may not look; None for no mask.
        """
        values = self.split(v)
        if self.tap is None:
            out = F.scaled_dot_product_attention(self.split(q), self.split(k), values, attn_mask=mask)
        else:
            weights = self.weights(q, k, mask)
            replaced = self.tap(weights, values)
            out = weights @ values if replaced is None else replaced
        return out.transpose(-3, -2).flatten(-2)


class Block(nn.Module):
    """x + Attn(LN1 x), then + MLP(LN2 ·), in the layout of OpenAI's checkpoints; `mlp` is its inner width, or 4 d."""

    def __init__(
        self, width: int, heads: int, activation: str, mlp: int | None = None, eps: float = LAYER_NORM_EPS
    ) -> None:
        super().__init__()
        inner = mlp or 4 * width
        self.attn = Attention(width, heads)
        self.ln_1 = nn.LayerNorm(width, eps)
        self.mlp = nn.Sequential(
            OrderedDict(
                c_fc=FrozenLinear(width, inner),
                gelu=(ACTIVATIONS | _MORE_ACTIVATIONS)[activation](),
                c_proj=FrozenLinear(inner, width),
            )
        )
        self.ln_2 = nn.LayerNorm(width, eps)

    def finish(
        self,
        x: Tensor,
        attended: Tensor,
        attn_bias: Tensor | None,
        mlp_bias: Tensor | None,
        *,
        moved: Mapping[str, Tensor] = UNMOVED,
    ) -> Tensor:
        """The rest of the block, once the rows x (..., T, d) have attended: residuals, MLP, biases of the ports.

        Args: moved: what is added to the LayerNorm in front of the MLP.
        """
        x = x + self.attn.out_proj(attended)
        if attn_bias is not None:
            x = x + attn_bias
        x = x + self.mlp(normed(self.ln_2, x, moved))
        return x if mlp_bias is None else x + mlp_bias


class Transformer(nn.Module):
    """A stack of blocks; the towers walk it themselves, because each knows which rows it still needs."""

    def __init__(
        self,
        width: int,
        layers: int,
        heads: int,
        activation: str,
        mlp: int | None = None,
        eps: float = LAYER_NORM_EPS,
    ) -> None:
        super().__init__()
        self.resblocks = nn.ModuleList([Block(width, heads, activation, mlp, eps) for _ in range(layers)])

    @property
    def blocks(self) -> list[Block]:
        """The blocks, as what they are."""
        return cast("list[Block]", list(self.resblocks))

    def __len__(self) -> int:
        return len(self.resblocks)
