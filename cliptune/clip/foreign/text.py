"""Text towers of open_clip in CLIP's own blocks, and of transformers as they are."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from cliptune.clip.ports import EMPTY, TowerPorts
from cliptune.clip.tokens import TokenBatch
from cliptune.clip.towers.layout import TokenLayout
from cliptune.clip.towers.text import Pool, Projection, TextTower

_POOLS: dict[str, tuple[Pool, bool]] = {
    "argmax": ("end", False),
    "eos": ("end", True),
    "last": ("last", False),
    "first": ("first", False),
}


class ClosedText(nn.Module):
    """A text tower of transformers, which is not open at any port: sentences go in, features come out.

    Args:
        model: ids (K, T) → (K, D). kind: what to call it in a sentence.
        embedding: its token table. context: T. width: d. embed: D.
    """

    croppable = linear = False
    open_at: frozenset[str] = frozenset()

    def __init__(
        self, model: nn.Module, kind: str, embedding: nn.Embedding, context: int, width: int, embed: int
    ) -> None:
        super().__init__()
        self.model, self.kind, self.token_embedding = model, kind, embedding
        self.context, self.width, self.embed = context, width, embed

    def forward(self, texts: TokenBatch, ports: TowerPorts = EMPTY) -> Tensor:
        """Encode K texts → (1, K, D), not unit-norm. Raises: ValueError if anything is to enter."""
        if not ports.empty:
            raise ValueError(
                f"{self.kind}: this text tower takes no prompt tokens, biases or deltas, and some were given. Use a "
                "backbone with a text tower of open_clip, or a method that changes the image, the features or the "
                "head only, such as vpt."
            )
        found: Any = self.model(texts.ids)
        features: Tensor = found[0] if isinstance(found, tuple) else found
        return features[None]

    def layout_of(self, texts: TokenBatch, inserted: int = 0) -> TokenLayout:
        """Which group each row belongs to."""
        return texts.layout


def text_tower(model: Any, embed: int) -> nn.Module:
    """The text part of an open_clip model, in CLIP's own blocks where they can be its blocks.

    Its weights are shared with the model, not copied, but for a projection that is transposed.

    Args:
        model: that open_clip built. embed: D.
    Raises: ValueError with a sentence for blocks that CLIP's cannot stand for.
    """
    source = getattr(model, "text", model)
    if hasattr(source, "pooler"):
        table = source.transformer.get_input_embeddings()
        kind = f"{type(source.transformer).__name__} of transformers"
        return ClosedText(source, kind, table, _context_of(source), table.embedding_dim, embed)
    blocks = list(source.transformer.resblocks)
    width, context = source.positional_embedding.shape[1], int(source.context_length)
    pool, by_id = _pool_of(source)
    with torch.device("meta"):
        tower = TextTower(
            context,
            source.token_embedding.num_embeddings,
            width,
            len(blocks),
            blocks[0].attn.num_heads,
            embed,
            _activation_of(blocks),
            blocks[0].mlp.c_fc.out_features,
            eps=source.ln_final.eps,
            causal=source.attn_mask is not None,
            pool=pool,
            projection=_projection_of(source),
            end_id=int(_either(source, "eos_id")) if by_id else None,
            pad_id=int(getattr(source, "pad_id", 0)),
        )
    tower.load_state_dict(_tensors(source), assign=True)
    return tower


def _either(source: Any, name: str) -> Any:
    """An attribute, which open_clip's CLIP keeps with `text_` in front."""
    return getattr(source, name) if hasattr(source, name) else getattr(source, f"text_{name}")


def _pool_of(source: Any) -> tuple[Pool, bool]:
    if getattr(source, "cls_emb", None) is not None:
        return "class", False
    name = _either(source, "pool_type")
    if name not in _POOLS:
        raise ValueError(f"the text tower pools by {name!r}, and only {', '.join(_POOLS)} can be read.")
    return _POOLS[name]


def _projection_of(source: Any) -> Projection:
    projection = source.text_projection
    if projection is None:
        return "none"
    return "affine" if getattr(projection, "bias", None) is not None else "linear"


def _activation_of(blocks: list[Any]) -> str:
    """Raises: ValueError for blocks that are not as CLIP's."""
    for block in blocks:
        plain = type(block).__name__ == "ResidualAttentionBlock" and isinstance(block.ls_1, nn.Identity)
        if not plain:
            raise ValueError(
                f"the text tower has blocks of the kind {type(block).__name__} with options that CLIP's do not have."
            )
    used = blocks[0].mlp.gelu
    if isinstance(used, nn.GELU):
        return "gelu_tanh" if used.approximate == "tanh" else "gelu"
    if type(used).__name__ == "QuickGELU":
        return "quick_gelu"
    raise ValueError(f"the text tower has the activation {type(used).__name__}, which cannot be read.")


def _tensors(source: Any) -> dict[str, Tensor]:
    """Its tensors by the names that they have here."""
    found = {
        "token_embedding.weight": source.token_embedding.weight,
        "positional_embedding": source.positional_embedding,
    }
    for part in ("transformer", "ln_final"):
        found |= {f"{part}.{name}": value for name, value in getattr(source, part).state_dict().items()}
    projection = source.text_projection
    if isinstance(projection, nn.Linear):
        found["text_projection"] = projection.weight.T.contiguous()
        if projection.bias is not None:
            found["projection_bias"] = projection.bias
    elif projection is not None:
        found["text_projection"] = projection
    if getattr(source, "cls_emb", None) is not None:
        found["class_embedding"] = source.cls_emb
    return {name: value.detach() for name, value in found.items()}


# What open_clip's tokenizer takes where nothing says how long a text may be.
_USUAL_CONTEXT = 77


def _context_of(source: Any) -> int:
    # Towers of transformers take texts of any length up to their positions; those of CLIP are short.
    return min(_USUAL_CONTEXT, int(source.context_length) or _USUAL_CONTEXT)
