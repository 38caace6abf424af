"""What each token contributes to the score of an image and its class."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cliptune.adapter import Adapter, Outputs
from cliptune.analysis.taps import Attended, tapped
from cliptune.batch import Batch
from cliptune.clip.ports import Ports, TowerPorts, called
from cliptune.clip.tokens import TokenBatch
from cliptune.clip.towers.blocks import Block
from cliptune.clip.towers.image import VisionTransformer
from cliptune.clip.towers.layout import TokenLayout, image_layout

Tower = Literal["image", "text"]
Estimator = Literal["direct", "gradient", "leave_one_out"]
ESTIMATORS: tuple[Estimator, ...] = ("direct", "gradient", "leave_one_out")


@dataclass(frozen=True)
class TokenEffects:
    """What each token does to the score s · cos(image, class) of B images.

    Args:
        tokens: (B, T), see the estimator.
        score: (B,), as the adapter gives it.
        layout: token groups of the T columns, (T,) or (B, T).
    All are float64.
    """

    tokens: Tensor
    score: Tensor
    layout: TokenLayout

    @property
    def relative(self) -> Tensor:
        """(B, T) signed shares c_j / Σ_k |c_k| of what the tokens contribute."""
        total = self.tokens.abs().sum(dim=-1, keepdim=True)
        return self.tokens / total.clamp_min(torch.finfo(total.dtype).tiny)

    def share(self, group: str) -> Tensor:
        """(B,) sum of the relative contributions of a token group, such as "prompt"."""
        return (self.relative * self.layout.mask(group)).sum(dim=-1)


@dataclass(frozen=True)
class TokenContributions(TokenEffects):
    """The score s · cos(image, class) of B images, taken apart: the parts add up to `score`.

    Args:
        tokens: (B, T), what the query (the class token, the end of the text) took from each token, over all blocks.
        mlp: (B,), from the query's MLPs.
        bias: (B,), from the biases of the output projections, and from learned ones.
        start: (B,), from the query's row in front of the first block.
        constant: (B,), from the shift of the last LayerNorm.
        score: (B,), as the adapter gives it.
        layout: token groups of the T columns, (T,) or (B, T).
    All are float64.
    """

    mlp: Tensor
    bias: Tensor
    start: Tensor
    constant: Tensor


@torch.no_grad()
def token_contributions(
    adapter: Adapter, batch: Batch, tower: Tower = "image", *, margin: bool = False
) -> TokenContributions:
    """What each token of a tower adds to the alignment of images with their classes.  (arXiv:2312.11570, figs. 2–3)

    The paper does not state its estimator. Here the query's row in front of the last LayerNorm is the sum of what its
    attention took from each token in each block, of its MLPs' outputs and of biases; each is projected on the direction
    in which the score grows, with the mean and the variance of that LayerNorm held at what they are.

    Args:
        adapter: over a ViT, with one view per image and one text, or one ensemble of texts, per class.
        batch: with labels.
        tower: whose tokens; in the text tower those of each image's own class.
        margin: in the image tower, the score of the own class minus that of the best other one.
    Raises: ValueError where the score has no such parts.
    """
    with adapter.evaluating():
        asked = _asked(adapter, batch, tower, margin)
        with _traced(asked) as trace:
            asked.encode()
        return trace.against(asked)


@torch.no_grad()
def token_effects(
    adapter: Adapter,
    batch: Batch,
    tower: Tower = "image",
    estimator: Estimator = "direct",
    *,
    margin: bool = False,
    layer: int = 0,
) -> TokenEffects:
    """The same question to one of three estimators.

    "direct" is `token_contributions`. "gradient" is the product of each token at the input of block `layer` with the
    gradient of the score there. "leave_one_out" is the score minus what it is when no query sees that token, in any
    block, and looks at the others in its place; it takes a pass per token.
    Raises: ValueError for another estimator or a block that there is not, or as `token_contributions`.
    """
    if estimator not in ESTIMATORS:
        raise ValueError(f"token_effects: estimator must be one of {', '.join(ESTIMATORS)}, got {estimator!r}.")
    if estimator == "direct":
        return token_contributions(adapter, batch, tower, margin=margin)
    with adapter.evaluating():
        asked = _asked(adapter, batch, tower, margin)
        if not 0 <= layer < len(asked.blocks):
            raise ValueError(f"token_effects: layer must be from 0 to {len(asked.blocks) - 1}, got {layer}.")
        tokens = _gradients(asked, layer) if estimator == "gradient" else _left_out(adapter, asked)
    group = asked.layout.group
    unseen = group == asked.layout.names.index("pad") if "pad" in asked.layout.names else torch.zeros_like(group) > 0
    return TokenEffects(tokens.masked_fill(unseen, 0.0).double(), asked.score.double(), asked.layout)


@dataclass(frozen=True)
class _Asked:
    """One tower and what its B sequences are scored against.

    Args:
        encode: run the tower on them, → (B, D) before unit norm.
        other: (B, D) unit features of the other modality, or differences of two.
        query: (B,) row that is read; group: its name.
    """

    tower: Any
    encode: Callable[[], Tensor]
    ports: TowerPorts
    other: Tensor
    query: Tensor
    group: str
    norm: nn.LayerNorm
    projection: Tensor
    scale: Tensor
    score: Tensor
    layout: TokenLayout

    @property
    def blocks(self) -> list[Block]:
        blocks: list[Block] = self.tower.transformer.blocks
        return blocks

    def score_now(self) -> Tensor:
        """(B,) of another run of the tower."""
        return self.scale * (F.normalize(self.encode(), dim=-1) * self.other).sum(dim=-1)


def _asked(adapter: Adapter, batch: Batch, tower: Tower, margin: bool) -> _Asked:
    ports, out = adapter.prompt(seen=adapter.seen), adapter(batch)
    _check(adapter, batch, ports, out, tower, margin)
    labels = batch.labels
    each = torch.arange(len(labels), device=labels.device)
    score = out.similarity[each, 0, labels]
    scale = adapter.clip.scale
    if tower == "image":
        image = adapter.clip.image
        assert isinstance(image, VisionTransformer)
        texts = out.text_features.expand(len(labels), -1, -1)
        other = texts[each, labels]
        if margin:
            others = out.similarity[:, 0].scatter(1, labels[:, None], float("-inf"))
            score, other = score - others.amax(dim=1), other - texts[each, others.argmax(dim=1)]
        prompts = ports.image.tokens[max(ports.image.tokens)].shape[-2] if ports.image.tokens else 0
        layout = image_layout(image.patches, prompts, labels.device)
        views = adapter.views(batch, ports.pixels)
        encode = lambda: adapter.clip.encode_image(views, ports.image)[:, 0]
        norm, projection, query = image.ln_post, image.proj, torch.zeros_like(labels)
        return _Asked(image, encode, ports.image, other, query, "cls", norm, projection, scale, score, layout)
    text = adapter.clip.text
    tokens, own = _own_texts(adapter, ports.text_given(out.image_features), labels)
    encode = lambda: adapter.clip.encode_text(tokens, own)[0]
    assert text.text_projection is not None  # `_check` saw to it
    other, norm, projection = out.image_features[:, 0], text.ln_final, text.text_projection
    return _Asked(text, encode, own, other, tokens.eot, "eot", norm, projection, scale, score, tokens.layout)


def _own_texts(adapter: Adapter, ports: TowerPorts, labels: Tensor) -> tuple[TokenBatch, TowerPorts]:
    """The text of each image's own class, one after another, and the ports as they are for it alone."""
    texts, each = adapter.texts, torch.arange(len(labels), device=labels.device)

    def own(value: Tensor, trailing: int) -> Tensor:
        whole = value.reshape((1,) * (2 + trailing - value.ndim) + value.shape)
        return whole[each if len(whole) > 1 else 0 * each, labels if whole.shape[1] > 1 else 0 * labels]

    tokens = {layer: own(value, 2) for layer, value in ports.tokens.items()}
    bias = {key: own(value, 1) for key, value in ports.bias.items()}
    return TokenBatch(texts.ids[labels], texts.slots[labels]), TowerPorts(tokens, bias, ports.delta)


def _gradients(asked: _Asked, layer: int) -> Tensor:
    """(B, T) products of the rows in front of a block with the gradient of the score there."""
    rows: list[Tensor] = []
    entrance = asked.tower.ln_pre if hasattr(asked.tower, "ln_pre") else asked.tower.token_embedding
    with ExitStack() as stack:
        hook = lambda handle: stack.callback(handle.remove)
        # Frozen weights make no graph, so it begins where the tokens enter.
        hook(entrance.register_forward_hook(lambda module, args, out: out.detach().requires_grad_()))
        hook(asked.blocks[layer].ln_1.register_forward_pre_hook(lambda module, args: rows.append(args[0])))
        stack.callback(setattr, asked.tower, "plain", asked.tower.plain)
        asked.tower.plain = True
        with torch.enable_grad():
            score = asked.score_now().sum()
            (gradient,) = torch.autograd.grad(score, rows[0])
    return (rows[0].detach() * gradient).sum(dim=-1)


def _left_out(adapter: Adapter, asked: _Asked) -> Tensor:
    """(B, T) score minus the score when a token is seen by none; 0 behind the last end of text."""
    effects = torch.zeros(len(asked.score), asked.layout.group.shape[-1], device=asked.score.device)
    last = int(asked.query.max()) if asked.group == "eot" else effects.shape[1] - 1
    for token in range(last + 1):

        def see(at: Attended, token: int = token) -> Tensor:
            left = at.weights.clone()
            left[..., token] = 0
            # The first row of a causal tower sees itself alone; nobody sees what it then becomes.
            total = left.sum(dim=-1, keepdim=True).clamp_min(torch.finfo(left.dtype).tiny)
            return left @ at.values / total

        with tapped(adapter, "text" if asked.group == "eot" else "image", see):
            effects[:, token] = asked.score - asked.score_now()
    return effects


class _Trace:
    """What B sequences of a tower add to the row that is read, the query.

    Attributes: taken (B, T, d) from each token's value; mlp, start, end (B, d); bias, (d,) or (B, d).
    """

    def __init__(self, asked: _Asked) -> None:
        self.query, self.group, self.ports = asked.query, asked.group, asked.ports
        self.taken = self.mlp = self.bias = self.start = self.end = torch.zeros(())

    def _row(self, x: Tensor) -> Tensor:
        """The query's row of each sequence, (B, …, T, d) → (B, …, d)."""
        return x[torch.arange(len(x), device=x.device), ..., self.query, :]

    def begin(self, module: nn.Module, args: tuple[Tensor, ...]) -> None:
        self.start = self._row(args[0])

    def attend(self, layer: int, block: Block, weights: Tensor, values: Tensor) -> None:
        out = block.attn.out_proj
        heads = self._row(weights)[..., None] * values  # (B, heads, T, d / heads)
        taken = F.linear(heads.transpose(1, 2).flatten(2), out.weight)
        missing = taken.shape[1] - (self.taken.shape[1] if self.taken.ndim else 0)
        self.taken = taken + (F.pad(self.taken, (0, 0, 0, missing)) if self.taken.ndim else 0)
        learned = [
            value.reshape(-1, value.shape[-1])
            for (at, _, group), value in self.ports.bias.items()
            if at == layer and group in ("all", self.group)
        ]
        self.bias = self.bias + out.bias + sum(learned, torch.zeros_like(out.bias))

    def think(self, module: nn.Module, args: tuple[Tensor, ...], out: Tensor) -> None:
        self.mlp = self.mlp + self._row(out)

    def finish(self, module: nn.Module, args: tuple[Tensor, ...]) -> None:
        self.end = args[0].flatten(0, -2)  # (B, d) of images, (1, B, d) of texts

    def against(self, asked: _Asked) -> TokenContributions:
        """Project on the direction in which the score with the other modality's features grows."""
        end, other, projection, norm = self.end.double(), asked.other.double(), asked.projection.double(), asked.norm
        mean, variance = end.mean(dim=-1, keepdim=True), end.var(dim=-1, keepdim=True, correction=0)
        sigma = (variance + norm.eps).sqrt()
        feature = ((end - mean) / sigma * norm.weight.double() + norm.bias.double()) @ projection
        factor = asked.scale.double() / feature.norm(dim=-1)
        seen = other @ projection.T
        grows = norm.weight.double() * seen
        direction = factor[:, None] / sigma * (grows - grows.mean(dim=-1, keepdim=True))
        along = lambda part: (part.double() * direction).sum(dim=-1)
        return TokenContributions(
            tokens=torch.einsum("btd,bd->bt", self.taken.double(), direction),
            mlp=along(self.mlp),
            bias=along(self.bias.expand_as(end)),
            start=along(self.start),
            constant=factor * (seen @ norm.bias.double()),
            score=asked.score.double(),
            layout=asked.layout,
        )


@contextmanager
def _traced(asked: _Asked) -> Iterator[_Trace]:
    """Trace the next forward pass of a tower; afterwards nothing is left behind."""
    trace = _Trace(asked)
    with ExitStack() as stack:
        hook = lambda handle: stack.callback(handle.remove)
        hook(asked.blocks[0].ln_1.register_forward_pre_hook(trace.begin))
        hook(asked.norm.register_forward_pre_hook(trace.finish))
        for layer, block in enumerate(asked.blocks):
            hook(block.mlp.register_forward_hook(trace.think))
            block.attn.tap = partial(trace.attend, layer, block)
            stack.callback(setattr, block.attn, "tap", None)
        yield trace


def _check(adapter: Adapter, batch: Batch, ports: Ports, out: Outputs, tower: str, margin: bool) -> None:
    """Raises: ValueError with a sentence."""
    classes, text = len(adapter.classes.names), adapter.clip.text
    if tower not in ("image", "text"):
        why = f"the tower must be image or text, got {tower!r}"
    elif tower == "image" and not isinstance(adapter.clip.image, VisionTransformer):
        own = hasattr(adapter.clip.image, "layers")
        lacks = "whose tokens are not in CLIP's own blocks" if own else "which has no tokens"
        why = f"the image tower is a {called(adapter.clip.image)}, {lacks}. Ask for the text tower"
    elif tower == "text" and not text.linear:
        why = "the score is not a sum over tokens in this text tower, which is not CLIP's own. Ask for the image tower"
    elif margin and (tower == "text" or classes < 2):
        why = "a margin compares two classes for one image, so it is for the image tower and at least two classes"
    elif len(batch) and not 0 <= int(batch.labels.min()) <= int(batch.labels.max()) < classes:
        why = f"every image needs a label from 0 to {classes - 1}. Give a batch with labels"
    elif moved := sorted(getattr(ports, tower).kinds & {"norm", "projection", "inserted"}):
        why = f"this method enters the {tower} tower at {moved[0]}, which the sum over tokens does not know"
    elif ports.features is not None:
        why = "something learned follows the image tower (a features port). Use a method without a projector"
    elif out.image_features.shape[1] != 1 or not adapter.texts.one_vote_each:
        why = "each image needs one view and each class one text; this method has more"
    elif tower == "text" and (adapter.texts.ensemble or adapter.known_texts is not None):
        why = "the class texts are averages, or another CLIP's. Ask for the image tower"
    else:
        return
    raise ValueError(f"token_contributions: {why}.")
