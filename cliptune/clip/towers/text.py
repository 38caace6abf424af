"""The text tower: a plain path that computes everything, and a fast one, for causal towers, that does nothing twice."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from cliptune.clip.ports import EMPTY, KINDS, SITES, TowerPorts
from cliptune.clip.tokens import Chunk, PrefixPlan, TokenBatch
from cliptune.clip.towers.blocks import (
    LAYER_NORM_EPS,
    Block,
    Transformer,
    gaussian,
    normed,
    norms_of,
    projected,
    with_inserted,
)
from cliptune.clip.towers.layout import TokenLayout, bias_rows

Pool = Literal["end", "last", "first", "class"]
Projection = Literal["linear", "affine", "none"]


class KeyValue(NamedTuple):
    """Keys and values of the shared prefix in one block, (I, k, d) each."""

    key: Tensor
    value: Tensor


class TextTower(nn.Module):
    """Text transformer of CLIP (arXiv:2103.00020), in the layout of OpenAI's checkpoints.

    Args:
        context: longest text, in tokens. vocab: rows of the token table.
        width: d. layers: L. heads: per block. embed: D. activation: "quick_gelu", "gelu" or "gelu_tanh".
        mlp: inner width of the MLPs; None for 4 d. eps: of the LayerNorms.
        causal: does a token see only itself and what stands before it? If not, padding is seen as well, every text is
            as long as the context, and nothing can be cropped or shared: the plain path runs.
        pool: which row is the text's: "end" (of text), "last" (of the context), "first", or "class", a learned token
            after the context, which does not see padding (CoCa, arXiv:2205.01917).
        projection: of that row: "linear", "affine" (with a bias), or "none" (then D = d).
        end_id: id of the end of text, found at its first place; None where it is the largest id.
        pad_id: of what a class token does not look at.

    `plain = True` runs every position of every text through every block. The default path gives the same features:
    it stops at the last end of text, runs the rows that all texts share once, packs the rest without padding, and
    computes one row per text in the last block. `max_rows` bounds the packed rows held at once; beyond it the texts
    run in chunks, and in training each chunk is recomputed in the backward pass.
    """

    def __init__(
        self,
        context: int,
        vocab: int,
        width: int,
        layers: int,
        heads: int,
        embed: int,
        activation: str,
        mlp: int | None = None,
        *,
        eps: float = LAYER_NORM_EPS,
        causal: bool = True,
        pool: Pool = "end",
        projection: Projection = "linear",
        end_id: int | None = None,
        pad_id: int = 0,
    ) -> None:
        super().__init__()
        self.context, self.width, self.embed = context, width, embed
        self.causal, self.pool, self.end_id, self.pad_id = causal, pool, end_id, pad_id
        self.token_embedding = nn.Embedding.from_pretrained(gaussian(vocab, width, std=0.02), freeze=False)
        self.class_embedding = gaussian(width, std=0.01) if pool == "class" else None
        self.positional_embedding = gaussian(context + (pool == "class"), width, std=0.01)
        self.transformer = Transformer(width, layers, heads, activation, mlp, eps)
        self.ln_final = nn.LayerNorm(width, eps)
        self.text_projection = None if projection == "none" else gaussian(width, embed, std=width**-0.5)
        self.projection_bias = nn.Parameter(torch.zeros(embed)) if projection == "affine" else None
        self.plain = False
        self.max_rows = 2048

    open_at = frozenset(KINDS)

    @property
    def layers(self) -> int:
        return len(self.transformer)

    @property
    def norms(self) -> dict[tuple[int, str], nn.LayerNorm]:
        """(layer, site) → LayerNorm."""
        return norms_of(self, None, self.ln_final)

    @property
    def croppable(self) -> bool:
        """Whether no row can see what stands after it, so that the end of texts may be cut and their start shared."""
        return self.causal and self.pool == "end"

    @property
    def linear(self) -> bool:
        """Whether features are a linear map of the normalised end-of-text row, as in CLIP."""
        return self.croppable and self.text_projection is not None and self.projection_bias is None

    def forward(self, texts: TokenBatch, ports: TowerPorts = EMPTY) -> Tensor:
        """Encode K texts → (I, K, D), not unit-norm; I = 1, or B where the ports depend on the image.

        Text tokens (*lead, n, d) go to `texts.slots`; at layer 0 they replace the placeholder embeddings and get
        positional embeddings, deeper they replace the rows of the block before: the last ones where they are fewer.
        """
        ports.check("TextTower", self.layers, self.width, self.embed)
        if "second" in ports.projection:
            raise ValueError(
                "TextTower: a text has one read-out, and a second one was asked for. Give it to the image."
            )
        places = texts.slots.shape[1]
        for layer, tokens in ports.tokens.items():
            if tokens.shape[-2] > places or (layer == 0 and tokens.shape[-2] < places):
                raise ValueError(
                    f"TextTower: the prompt of layer {layer} has {tokens.shape[-2]} tokens, but the texts have places "
                    f"for {places}. Build texts and prompt with the same n_ctx."
                )
        for (kind, key), value in ports.leaves():
            if kind not in _PER_TEXT:
                continue
            lead = value.shape[: -_PER_TEXT[kind]]
            if lead and lead[-1] not in (1, len(texts)):
                raise ValueError(
                    f"TextTower: text {kind}[{key}] was made for {lead[-1]} classes, but {len(texts)} texts were "
                    "given. Class-specific prompts cannot be used with other classes; train a unified one instead."
                )
        ports = ports.map(lambda value: value.to(self.token_embedding.weight.dtype))
        if self.end_id is not None and texts.ends is None:
            texts = replace(texts, ends=first_of(texts.ids, self.end_id))
        recording = any(block.attn.tap is not None for block in self.transformer.blocks)
        fast = self.croppable and not (self.plain or recording)
        if fast and ports.inserted:
            # They stand behind the start of the text, among the rows that all texts share, if these share any.
            fast = _shareable(texts, ports) >= texts.head
        return self._fast(texts, ports) if fast else self._plain(texts, ports)

    # -- the plain path: the truth of the fast one, and what is recorded --------------------------------------

    def _plain(self, texts: TokenBatch, ports: TowerPorts) -> Tensor:
        lead = (_images(ports), len(texts))
        if not self.croppable and texts.ids.shape[1] != self.context:
            raise ValueError(
                f"TextTower: this tower sees padding too, so every text must have its context of {self.context} "
                f"tokens, got {texts.ids.shape[1]}. Pad the ids as the tokenizer of this CLIP does."
            )

        def rows(value: Tensor) -> Tensor:
            return value.expand(*lead, *value.shape[-2:]).flatten(0, 1)

        length = texts.ids.shape[1]
        slots = texts.slots.expand(*lead, -1).flatten(0, 1)[..., None].expand(-1, -1, self.width)
        x = rows(self.token_embedding(texts.ids) + self.positional_embedding[:length])
        if 0 in ports.tokens:
            x = x.scatter(1, slots, rows(ports.tokens[0] + self.positional_embedding[texts.slots]))
        if self.class_embedding is not None:
            own = (self.class_embedding + self.positional_embedding[length]).expand(len(x), 1, -1)
            x = torch.cat([x, own], dim=1)
        mask, layout, inserted = self._mask(texts, x, lead), self.layout_of(texts), 0
        for i, block in enumerate(self.transformer.blocks):
            if i in ports.inserted:
                x = with_inserted(x, rows(ports.inserted[i]), texts.head, inserted, ports.flow)
                if not inserted:
                    inserted = ports.inserted[i].shape[-2]
                    slots = slots + inserted * (slots >= texts.head)
                    mask, layout = self._mask(texts, x, lead, inserted), self.layout_of(texts, inserted)
            if i > 0 and i in ports.tokens:
                x = x.scatter(1, slots[:, -ports.tokens[i].shape[-2] :], rows(ports.tokens[i]))
            biases = [bias_rows(ports, i, site, layout) for site in SITES]
            h = normed(block.ln_1, x, ports.norms(i, "attn"))
            attended = block.attn.attend(*block.attn.qkv(h, ports.deltas(i)), mask)
            added = (None if b is None else rows(b) for b in biases)
            x = block.finish(x, attended, *added, moved=ports.norms(i, "mlp"))
        x = x.unflatten(0, lead)[:, torch.arange(len(texts), device=x.device), self._read_out(texts, inserted)]
        return self._projected(x, ports)

    def _read_out(self, texts: TokenBatch, inserted: int = 0) -> Tensor:
        """(K,) the row that is the text's."""
        if self.pool == "end":
            return texts.eot + inserted
        if self.pool == "first":
            return texts.eot.new_full((len(texts),), 0 if texts.head else inserted)
        return texts.eot.new_full((len(texts),), -1)

    def _projected(self, row: Tensor, ports: TowerPorts) -> Tensor:
        """(..., d) → (..., D): the last LayerNorm and the last map."""
        row, added = normed(self.ln_final, row, ports.norms(self.layers - 1, "post")), ports.projection.get("first")
        if self.text_projection is None:
            embedding = row if added is None else row + row @ added
        else:
            embedding = projected(row, self.text_projection, added)
        return embedding if self.projection_bias is None else embedding + self.projection_bias

    def _mask(self, texts: TokenBatch, x: Tensor, lead: tuple[int, int], inserted: int = 0) -> Tensor | None:
        """(T, T) or (I K, 1, T, T), added to the scores; None where every row sees all rows."""
        mask = causal_mask(x.shape[1], x) if self.causal else None
        if self.class_embedding is None:
            return mask
        # As in the released weights, whose mask of padding stands one row too far to the right.
        seen = F.pad(texts.ids != self.pad_id, (1 + inserted, 0), value=True)
        hidden = (
            x.new_zeros(seen.shape).masked_fill(~seen, float("-inf")).expand(*lead, -1).flatten(0, 1)[:, None, None]
        )
        return hidden if mask is None else hidden + mask

    def layout_of(self, texts: TokenBatch, inserted: int = 0) -> TokenLayout:
        """Which group each row of the plain path belongs to, where so many are inserted."""
        layout = texts.layout
        if self.class_embedding is not None:
            # The class token is what is read, as an end of text is elsewhere.
            layout = TokenLayout(layout.names, F.pad(layout.group, (0, 1), value=layout.names.index("eot")))
        return layout if not inserted else layout.widened(texts.head, inserted)

    # -- the fast path: facts F1 to F7 of causal attention ----------------------------------------------------

    def _fast(self, texts: TokenBatch, ports: TowerPorts) -> Tensor:
        plan = texts.plan(_shareable(texts, ports), max(1, self.max_rows // _images(ports)))
        prefix = self._prefix(texts, plan, ports) if plan.prefix else None
        recompute = len(plan.chunks) > 1 and torch.is_grad_enabled() and _needs_grad(ports)
        random = any(delta.dropout for delta in ports.delta.values())
        features = [
            checkpoint(self._suffix, texts, plan, chunk, ports, prefix, use_reentrant=False, preserve_rng_state=random)
            if recompute
            else self._suffix(texts, plan, chunk, ports, prefix)
            for chunk in plan.chunks
        ]
        return torch.cat(features, dim=1).index_select(1, plan.order)

    def _prefix(self, texts: TokenBatch, plan: PrefixPlan, ports: TowerPorts) -> list[KeyValue]:
        """Run the rows that all texts share; only their keys and values are seen by the rest."""
        k, at = plan.prefix, plan.prefix_rows
        position = self.positional_embedding[:k]
        u = (self.token_embedding(texts.ids[0, :k]) + position).expand(_images(ports), -1, -1)
        layout = TokenLayout(texts.layout.names, texts.layout.group[0, :k])
        kept: list[KeyValue] = []
        inserted = 0
        for i, block in enumerate(self.transformer.blocks):
            if i in ports.inserted:
                u = with_inserted(u, _lead(ports.inserted[i], 2)[:, 0], texts.head, inserted, ports.flow)
                if not inserted:
                    inserted = ports.inserted[i].shape[-2]
                    at, layout = at + inserted * (at >= texts.head), layout.widened(texts.head, inserted)
            if i in ports.tokens and len(at):
                here, slot = _entering(ports.tokens[i], texts, plan.prefix_slots)
                prompt = _lead(ports.tokens[i], 2)[:, 0, slot]
                prompt = prompt + position[at] if i == 0 else prompt
                u = u.index_copy(1, at[here], prompt.expand(len(u), -1, -1))
            h = normed(block.ln_1, u, ports.norms(i, "attn"))
            key, value = block.attn.key_value(h, ports.deltas(i))
            kept.append(KeyValue(key, value))
            if i == self.layers - 1:
                break
            every = torch.arange(u.shape[1], device=u.device)
            need = every
            if i + 1 in ports.tokens:
                # A row whose output the next block replaces is needed as key and value only (F7).
                here, _ = _entering(ports.tokens[i + 1], texts, plan.prefix_slots)
                need = every[~torch.isin(every, at[here])]
            mask = causal_mask(len(every), u)
            biases = [_packed_bias(ports, i, site, layout) for site in SITES]
            rows = block.finish(
                u[:, need],
                block.attn.attend(block.attn.query(h[:, need], ports.deltas(i)), key, value, mask[need]),
                *(_pick(b, need) for b in biases),
                moved=ports.norms(i, "mlp"),
            )
            u = rows if len(need) == len(every) else u.index_copy(1, need, rows)
        return kept

    def _suffix(
        self, texts: TokenBatch, plan: PrefixPlan, chunk: Chunk, ports: TowerPorts, prefix: list[KeyValue] | None
    ) -> Tensor:
        """Run the packed rows of some classes after the prefix → (I, K', D)."""
        position = self.positional_embedding[chunk.row_pos]
        y = self.token_embedding(texts.ids[chunk.row_class, chunk.row_pos]) + position
        y = y.expand(_images(ports), -1, -1)
        layout = TokenLayout(texts.layout.names, texts.layout.group[chunk.row_class, chunk.row_pos])
        for i, block in enumerate(self.transformer.blocks):
            if i in ports.tokens and len(chunk.slot_rows):
                tokens = _lead(ports.tokens[i], 2)
                here, slot = _entering(tokens, texts, chunk.slot)
                owner = chunk.slot_class[here] if tokens.shape[1] > 1 else torch.zeros_like(slot)
                prompt = tokens[:, owner, slot]
                prompt = prompt + position[chunk.slot_rows] if i == 0 else prompt
                y = y.index_copy(1, chunk.slot_rows[here], prompt.expand(len(y), -1, -1))
            biases = [_packed_bias(ports, i, site, layout, chunk.row_class) for site in SITES]
            h, moved = normed(block.ln_1, y, ports.norms(i, "attn")), ports.norms(i, "mlp")
            before = None if prefix is None else prefix[i]
            if i == self.layers - 1:
                # Only the end-of-text row of each class is read (F6).
                deltas = ports.deltas(i)
                q, (key, value) = block.attn.query(h[:, chunk.last], deltas), block.attn.key_value(h, deltas)
                attended = _attend(block, q, key, value, before, chunk, last_only=True)
                y = block.finish(y[:, chunk.last], attended, *(_pick(b, chunk.last) for b in biases), moved=moved)
            else:
                attended = _attend(block, *block.attn.qkv(h, ports.deltas(i)), before, chunk)
                y = block.finish(y, attended, *biases, moved=moved)
        return self._projected(y, ports)


# Kinds of ports that may differ from text to text → their own dimensions.
_PER_TEXT = {"tokens": 2, "bias": 1, "inserted": 2}


def first_of(ids: Tensor, wanted: int) -> Tensor:
    """(K,) first place of an id in each row of (K, T); 0 where it is not there, as in open_clip."""
    return (ids == wanted).int().argmax(dim=-1)


def causal_mask(length: int, like: Tensor) -> Tensor:
    """(T, T), −inf strictly above the diagonal."""
    return torch.full((length, length), float("-inf"), dtype=like.dtype, device=like.device).triu(1)


def _attend(
    block: Block, q: Tensor, key: Tensor, value: Tensor, before: KeyValue | None, chunk: Chunk, last_only: bool = False
) -> Tensor:
    """Each packed row attends to the prefix and to the rows of its own text up to itself, group by group of lengths."""
    images, out, row, query_row = len(key), [], 0, 0
    for count, size in chunk.lengths:
        asked = 1 if last_only else size
        asking, *mine = [
            x[:, start : start + count * rows].unflatten(1, (count, rows)).flatten(0, 1)
            for x, start, rows in ((q, query_row, asked), (key, row, size), (value, row, size))
        ]
        k = 0 if before is None else before.key.shape[1]
        if before is not None:
            for j, shared in enumerate(before):
                shared = shared[:, None].expand(images, count, -1, -1).flatten(0, 1)
                mine[j] = torch.cat([shared, mine[j]], dim=1)
        mask = None if asked == 1 else causal_mask(k + size, q)[k:]
        out.append(block.attn.attend(asking, mine[0], mine[1], mask).unflatten(0, (images, count)).flatten(1, 2))
        row += count * size
        query_row += count * asked
    return torch.cat(out, dim=1)


def _lead(value: Tensor, trailing: int) -> Tensor:
    """(*lead, ...) with `trailing` own dimensions → (I or 1, K or 1, ...)."""
    return value.reshape((1,) * (2 + trailing - value.ndim) + value.shape)


def _packed_bias(
    ports: TowerPorts, layer: int, site: str, layout: TokenLayout, row_class: Tensor | None = None
) -> Tensor | None:
    """Biases of one site over packed rows, (I or 1, N or 1, d); `row_class` (N,) spreads a bias per class."""
    total: Tensor | None = None
    for (at, where, group), value in ports.bias.items():
        if (at, where) != (layer, site):
            continue
        rows = _lead(value, 1)
        if row_class is not None and rows.shape[1] > 1:
            rows = rows[:, row_class]
        if group != "all":
            rows = rows * layout.mask(group).unsqueeze(-1).to(rows.dtype)
        total = rows if total is None else total + rows
    return total


def _pick(rows: Tensor | None, at: Tensor) -> Tensor | None:
    return rows if rows is None or rows.shape[1] == 1 else rows[:, at]


def _entering(tokens: Tensor, texts: TokenBatch, slot: Tensor) -> tuple[Tensor | slice, Tensor]:
    """Which of some places (S,) tokens (*lead, m, d) enter, the last m of all; and their rows of the tokens there."""
    staying = texts.slots.shape[1] - tokens.shape[-2]
    if not staying:
        return slice(None), slot
    here = slot >= staying
    return here, slot[here] - staying


def _leads(ports: TowerPorts) -> list[torch.Size]:
    leaves = ((kind, value) for (kind, _), value in ports.leaves() if kind in _PER_TEXT)
    return [_lead(value, _PER_TEXT[kind]).shape[:2] for kind, value in leaves]


def _images(ports: TowerPorts) -> int:
    return max((lead[0] for lead in _leads(ports)), default=1)


def _shareable(texts: TokenBatch, ports: TowerPorts) -> int:
    """Length of the prefix that is the same for all texts under these ports (F3, F4)."""
    shared = texts.shared_length
    if any(_lead(value, 1).shape[1] > 1 for value in ports.bias.values()):
        return 0
    if any(_lead(value, 2).shape[1] > 1 for value in ports.inserted.values()):
        return 0
    if any(_lead(value, 2).shape[1] > 1 for value in ports.tokens.values()):
        shared = min(shared, int(texts.slots.min()))
    return shared


def _needs_grad(ports: TowerPorts) -> bool:
    return any(value.requires_grad for _, value in ports.leaves())
