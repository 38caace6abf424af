"""Blocks of timm and open_clip, walked step by step, so that ports open between the steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cliptune.clip.deltas import Delta, added
from cliptune.clip.foreign.libraries import library
from cliptune.clip.towers.blocks import Tap


class ForeignAttention:
    """A frozen attention module of another library, whose maps of queries, keys and values take deltas.

    Args:
        module: with one map for all three, `qkv` or `in_proj_weight`, or three maps `q_proj`, `k_proj`, `v_proj`.

    Norms of queries and keys, rotary positions, a norm or a gate before the output map are what the module has.
    `tap` is that of `cliptune.clip.towers.blocks.Attention`.
    """

    def __init__(self, module: nn.Module) -> None:
        self.module: Any = module
        self.tap: Tap | None = None

    def __call__(self, x: Tensor, deltas: Mapping[str, Delta], rope: Tensor | None, patches: slice) -> Tensor:
        """Rows (N, T, d) → what attention adds to them, (N, T, d).

        Args:
            rope: rotary positions of the rows `patches`; the other rows have none.
        """
        q, k, v = (self._split(rows) for rows in self._qkv(x, deltas))
        q, k = self._normed("q_norm", q), self._normed("k_norm", k)
        if rope is not None:
            q, k = (self._rotated(rows, rope, patches).type_as(v) for rows in (q, k))
        attended = self._attend(q, k, v).transpose(1, 2).flatten(2)
        attended = self._normed("norm", attended)
        gate = getattr(self.module, "gate", None)
        gated: Tensor = attended if gate is None else attended * gate(x).sigmoid()
        return self._output(gated)

    def _qkv(self, x: Tensor, deltas: Mapping[str, Delta]) -> tuple[Tensor, ...]:
        module = self.module
        if getattr(module, "in_proj_weight", None) is not None:
            parts = F.linear(x, module.in_proj_weight, module.in_proj_bias).chunk(3, dim=-1)
        elif getattr(module, "qkv", None) is None:
            parts = (module.q_proj(x), module.k_proj(x), module.v_proj(x))
        elif getattr(module, "q_bias", None) is not None:
            bias = torch.cat([module.q_bias, module.k_bias, module.v_bias])
            parts = F.linear(x, module.qkv.weight, bias).chunk(3, dim=-1)
        else:
            parts = module.qkv(x).chunk(3, dim=-1)
        return tuple(added(rows, x, deltas, name) for rows, name in zip(parts, "qkv", strict=True))

    def _split(self, rows: Tensor) -> Tensor:
        """(N, T, d) → (N, heads, T, d / heads)."""
        heads: int = self.module.num_heads
        apart: Tensor = rows.unflatten(-1, (heads, -1))
        return apart.transpose(1, 2)

    def _normed(self, name: str, rows: Tensor) -> Tensor:
        norm = getattr(self.module, name, None)
        normed: Tensor = rows if norm is None else norm(rows)
        return normed

    def _rotated(self, rows: Tensor, rope: Tensor, patches: slice) -> Tensor:
        rotate = library("timm.layers", "A tower with rotary positions").apply_rot_embed_cat
        half = getattr(self.module, "rotate_half", False)
        turned = rotate(rows[:, :, patches], rope, half=half)
        return torch.cat([rows[:, :, : patches.start], turned, rows[:, :, patches.stop :]], dim=2)

    def _attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        if self.tap is None:
            return F.scaled_dot_product_attention(q, k, v)
        weights = (q @ k.mT * q.shape[-1] ** -0.5).softmax(dim=-1)
        instead = self.tap(weights, v)
        return weights @ v if instead is None else instead

    def _output(self, attended: Tensor) -> Tensor:
        last = self.module.proj if hasattr(self.module, "proj") else self.module.out_proj
        out: Tensor = last(attended)
        return out


class ForeignBlock:
    """A frozen block of another library: x + scale₁ · attention, + bias, then + scale₂ · MLP, + bias.

    Args:
        module: a block with norms in front of attention and MLP, or behind them.
        names: of its parts: the two norms, and the two layers that scale (or parameters, "" where there is none).
        after: do the norms stand behind attention and MLP?
    """

    def __init__(self, module: nn.Module, names: Sequence[str], after: bool = False) -> None:
        self.module: Any = module
        self.attn = ForeignAttention(_attention_of(module))
        self.norms, self.scales, self.after = names[:2], names[2:], after

    def looked_at(self, x: Tensor) -> Tensor:
        """What attention sees of the rows x."""
        return x if self.after else self._norm(0, x)

    def __call__(
        self,
        x: Tensor,
        seen: Tensor,
        deltas: Mapping[str, Delta],
        biases: Sequence[Tensor | None],
        rope: Tensor | None,
        patches: slice,
    ) -> Tensor:
        """Rows x (N, T, d), which attention sees as `seen` → the block's output, with what the ports add."""
        x = self._plus(x, self._finished(0, self.attn(seen, deltas, rope, patches)), biases[0])
        h = x if self.after else self._norm(1, x)
        return self._plus(x, self._finished(1, self.module.mlp(h)), biases[1])

    @staticmethod
    def _plus(x: Tensor, branch: Tensor, bias: Tensor | None) -> Tensor:
        return x + branch if bias is None else x + branch + bias

    def _norm(self, which: int, x: Tensor) -> Tensor:
        normed: Tensor = getattr(self.module, self.norms[which])(x)
        return normed

    def _finished(self, which: int, branch: Tensor) -> Tensor:
        branch = self._norm(which, branch) if self.after else branch
        scale = getattr(self.module, self.scales[which], None)
        if scale is None:
            return branch
        scaled: Tensor = scale(branch) if isinstance(scale, nn.Module) else scale * branch
        return scaled


class Stack:
    """The blocks of a tower."""

    def __init__(self, blocks: Sequence[ForeignBlock]) -> None:
        self.blocks = list(blocks)

    def __len__(self) -> int:
        return len(self.blocks)


def known_blocks(modules: Sequence[nn.Module]) -> list[ForeignBlock] | str:
    """The blocks of a tower as ports need them; else why not, as a phrase."""
    found = []
    for module in modules:
        block = _block(module)
        if isinstance(block, str):
            return block
        found.append(block)
    return found


# Blocks of transformers that are built as SigLIP's, and their attention.
_OF_TRANSFORMERS = {
    "SiglipEncoderLayer": "SiglipAttention",
    "Siglip2EncoderLayer": "Siglip2Attention",
    "ChineseCLIPVisionLayer": "ChineseCLIPVisionAttention",
    "AltCLIPEncoderLayer": "AltCLIPAttention",
}
_ATTENTIONS = {"Attention", "AttentionRope", "EvaAttention", "MultiheadAttention", *_OF_TRANSFORMERS.values()}


def _attention_of(module: Any) -> Any:
    return module.attn if hasattr(module, "attn") else module.self_attn


def _block(module: nn.Module) -> ForeignBlock | str:
    kind = (type(module).__module__.partition(".")[0], type(module).__name__)
    forms: dict[tuple[str, str], tuple[Sequence[str], bool]] = {
        ("timm", "Block"): (("norm1", "norm2", "ls1", "ls2"), False),
        ("timm", "ResPostBlock"): (("norm1", "norm2", "", ""), True),
        ("timm", "EvaBlock"): (("norm1", "norm2", "gamma_1", "gamma_2"), False),
        ("timm", "EvaBlockPostNorm"): (("norm1", "norm2", "", ""), True),
        ("open_clip", "ResidualAttentionBlock"): (("ln_1", "ln_2", "ls_1", "ls_2"), False),
        **{("transformers", name): (("layer_norm1", "layer_norm2", "", ""), False) for name in _OF_TRANSFORMERS},
    }
    if kind not in forms:
        return f"it has blocks of the kind {kind[1]}, whose inside is not known here"
    attention = _attention_of(module)
    if type(attention).__name__ not in _ATTENTIONS:
        return f"its blocks attend by a {type(attention).__name__}, whose inside is not known here"
    if getattr(attention, "num_kv_groups", 1) != 1:
        return "its keys and values have fewer heads than its queries"
    return ForeignBlock(module, *forms[kind])
