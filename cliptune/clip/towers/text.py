"""The causal text tower: a plain path that computes everything, and a fast one that computes nothing twice."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from cliptune.clip.ports import EMPTY, SITES, TowerPorts
from cliptune.clip.tokens import Chunk, PrefixPlan, TokenBatch
from cliptune.clip.towers.blocks import Block, Transformer, gaussian
from cliptune.clip.towers.layout import TokenLayout, bias_rows


class KeyValue(NamedTuple):
    """Keys and values of the shared prefix in one block, (I, k, d) each."""

    key: Tensor
    value: Tensor


class TextTower(nn.Module):
    """Causal text transformer of CLIP (arXiv:2103.00020), in the layout of OpenAI's checkpoints.

    Args:
        context: longest text, in tokens. vocab: rows of the token table.
        width: d. layers: L. heads: per block. embed: D. activation: "quick_gelu" or "gelu".

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
    ) -> None:
        super().__init__()
        self.context, self.width, self.embed = context, width, embed
        self.token_embedding = nn.Embedding.from_pretrained(gaussian(vocab, width, std=0.02), freeze=False)
        self.positional_embedding = gaussian(context, width, std=0.01)
        self.transformer = Transformer(width, layers, heads, activation, mlp)
        self.ln_final = nn.LayerNorm(width)
        self.text_projection = gaussian(width, embed, std=width**-0.5)
        self.plain = False
        self.max_rows = 2048

    @property
    def layers(self) -> int:
        return len(self.transformer)

    def forward(self, texts: TokenBatch, ports: TowerPorts = EMPTY) -> Tensor:
        """Encode K texts → (I, K, D), not unit-norm; I = 1, or B where the ports depend on the image.

        Text tokens (*lead, n, d) go to `texts.slots`; at layer 0 they replace the placeholder embeddings and get
        positional embeddings, deeper they replace the rows of the block before.
        """
        ports.check("TextTower", self.layers, self.width)
        for layer, tokens in ports.tokens.items():
            if tokens.shape[-2] != texts.slots.shape[1]:
                raise ValueError(
                    f"TextTower: the prompt of layer {layer} has {tokens.shape[-2]} tokens, but the texts have places "
                    f"for {texts.slots.shape[1]}. Build texts and prompt with the same n_ctx."
                )
        for (kind, key), value in ports.leaves():
            if kind == "delta":
                continue
            lead = value.shape[:-2] if kind == "tokens" else value.shape[:-1]
            if lead and lead[-1] not in (1, len(texts)):
                raise ValueError(
                    f"TextTower: text {kind}[{key}] was made for {lead[-1]} classes, but {len(texts)} texts were "
                    "given. Class-specific prompts cannot be used with other classes; train a unified one instead."
                )
        ports = ports.map(lambda value: value.to(self.text_projection.dtype))
        recording = any(block.attn.tap is not None for block in self.transformer.blocks)
        return self._plain(texts, ports) if self.plain or recording else self._fast(texts, ports)

    # -- the plain path: the truth of the fast one, and what is recorded --------------------------------------

    def _plain(self, texts: TokenBatch, ports: TowerPorts) -> Tensor:
        lead = (_images(ports), len(texts))

        def rows(value: Tensor) -> Tensor:
            return value.expand(*lead, *value.shape[-2:]).flatten(0, 1)

        length = texts.ids.shape[1]
        slots = texts.slots.expand(*lead, -1).flatten(0, 1)[..., None].expand(-1, -1, self.width)
        x = rows(self.token_embedding(texts.ids) + self.positional_embedding[:length])
        if 0 in ports.tokens:
            x = x.scatter(1, slots, rows(ports.tokens[0] + self.positional_embedding[texts.slots]))
        mask = causal_mask(length, x)
        for i, block in enumerate(self.transformer.blocks):
            if i > 0 and i in ports.tokens:
                x = x.scatter(1, slots, rows(ports.tokens[i]))
            biases = [bias_rows(ports, i, site, texts.layout) for site in SITES]
            h = block.ln_1(x)
            attended = block.attn.attend(*block.attn.qkv(h, ports.deltas(i)), mask)
            x = block.finish(x, attended, *(None if b is None else rows(b) for b in biases))
        x = x.unflatten(0, lead)[:, torch.arange(len(texts), device=x.device), texts.eot]
        final: Tensor = self.ln_final(x)
        return final @ self.text_projection

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
        mask = causal_mask(k, u)
        every = torch.arange(k, device=u.device)
        # A row whose output the next block replaces is needed as key and value only (F7).
        passing = every[~torch.isin(every, at)]
        kept: list[KeyValue] = []
        for i, block in enumerate(self.transformer.blocks):
            if i in ports.tokens and len(at):
                prompt = _lead(ports.tokens[i], 2)[:, 0, plan.prefix_slots]
                prompt = prompt + position[at] if i == 0 else prompt
                u = u.index_copy(1, at, prompt.expand(len(u), -1, -1))
            h = block.ln_1(u)
            key, value = block.attn.key_value(h, ports.deltas(i))
            kept.append(KeyValue(key, value))
            if i == self.layers - 1:
                break
            need = passing if i + 1 in ports.tokens else every
            biases = [_packed_bias(ports, i, site, layout) for site in SITES]
            rows = block.finish(
                u[:, need],
                block.attn.attend(block.attn.query(h[:, need], ports.deltas(i)), key, value, mask[need]),
                *(_pick(b, need) for b in biases),
            )
            u = rows if len(need) == k else u.index_copy(1, need, rows)
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
                owner = chunk.slot_class if tokens.shape[1] > 1 else torch.zeros_like(chunk.slot_class)
                prompt = tokens[:, owner, chunk.slot]
                prompt = prompt + position[chunk.slot_rows] if i == 0 else prompt
                y = y.index_copy(1, chunk.slot_rows, prompt.expand(len(y), -1, -1))
            biases = [_packed_bias(ports, i, site, layout, chunk.row_class) for site in SITES]
            h = block.ln_1(y)
            before = None if prefix is None else prefix[i]
            if i == self.layers - 1:
                # Only the end-of-text row of each class is read (F6).
                deltas = ports.deltas(i)
                q, (key, value) = block.attn.query(h[:, chunk.last], deltas), block.attn.key_value(h, deltas)
                attended = _attend(block, q, key, value, before, chunk, last_only=True)
                y = block.finish(y[:, chunk.last], attended, *(_pick(b, chunk.last) for b in biases))
            else:
                attended = _attend(block, *block.attn.qkv(h, ports.deltas(i)), before, chunk)
                y = block.finish(y, attended, *biases)
        final: Tensor = self.ln_final(y)
        return final @ self.text_projection


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


def _leads(ports: TowerPorts) -> list[torch.Size]:
    leaves = [(kind, value) for (kind, _), value in ports.leaves() if kind != "delta"]
    return [_lead(value, 2 if kind == "tokens" else 1).shape[:2] for kind, value in leaves]


def _images(ports: TowerPorts) -> int:
    return max((lead[0] for lead in _leads(ports)), default=1)


def _shareable(texts: TokenBatch, ports: TowerPorts) -> int:
    """Length of the prefix that is the same for all texts under these ports (F3, F4)."""
    shared = texts.shared_length
    if any(_lead(value, 1).shape[1] > 1 for value in ports.bias.values()):
        return 0
    if any(_lead(value, 2).shape[1] > 1 for value in ports.tokens.values()):
        shared = min(shared, int(texts.slots.min()))
    return shared


def _needs_grad(ports: TowerPorts) -> bool:
    return any(value.requires_grad for _, value in ports.leaves())
