"""What each token contributes to the score of an image and its class."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cliptune.adapter import Adapter, Outputs
from cliptune.batch import Batch
from cliptune.clip.ports import Ports, TowerPorts, called
from cliptune.clip.towers.blocks import Block
from cliptune.clip.towers.image import VisionTransformer
from cliptune.clip.towers.layout import TokenLayout, image_layout


@dataclass(frozen=True)
class TokenContributions:
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

    tokens: Tensor
    mlp: Tensor
    bias: Tensor
    start: Tensor
    constant: Tensor
    score: Tensor
    layout: TokenLayout

    @property
    def relative(self) -> Tensor:
        """(B, T) signed shares c_j / Σ_k |c_k| of what the tokens contribute."""
        return self.tokens / self.tokens.abs().sum(dim=-1, keepdim=True)

    def share(self, group: str) -> Tensor:
        """(B,) sum of the relative contributions of a token group, such as "prompt"."""
        return (self.relative * self.layout.mask(group)).sum(dim=-1)


@torch.no_grad()
def token_contributions(
    adapter: Adapter, batch: Batch, tower: Literal["image", "text"] = "image", *, margin: bool = False
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
        ports, out = adapter.prompt(seen=adapter.seen), adapter(batch)
        _check(adapter, batch, ports, out, tower, margin)
        image, labels = adapter.clip.image, batch.labels
        each = torch.arange(len(labels), device=labels.device)
        if tower == "image":
            assert isinstance(image, VisionTransformer)
            start = torch.zeros_like(labels)
            with _traced(image.transformer.blocks, image.ln_post, start, "cls", ports.image) as trace:
                adapter.clip.encode_image(adapter.views(batch, ports.pixels), ports.image)
            texts = out.text_features.expand(len(labels), -1, -1)
            score, other = out.similarity[each, 0, labels], texts[each, labels]
            if margin:
                others = out.similarity[:, 0].scatter(1, labels[:, None], float("-inf"))
                score, other = score - others.amax(dim=1), other - texts[each, others.argmax(dim=1)]
            layout = image_layout(image.patches, trace.taken.shape[1] - 1 - image.patches, labels.device)
            lead = (len(labels), 1)
            return trace.against(each, lead, other, adapter.clip.scale, image.ln_post, image.proj, score, layout)
        text, texts_of = adapter.clip.text, adapter.texts
        own = ports.text_given(out.image_features)
        assert text.text_projection is not None  # `_check` saw to it
        with _traced(text.transformer.blocks, text.ln_final, texts_of.eot, "eot", own) as trace:
            encoded = adapter.clip.encode_text(texts_of, own)
        lead = (len(encoded), len(texts_of))
        at = labels if lead[0] == 1 else each * lead[1] + labels
        group = texts_of.layout.group.expand(len(texts_of), -1)[labels]
        score, layout = out.similarity[each, 0, labels], TokenLayout(texts_of.layout.names, group)
        other = out.image_features[:, 0]
        return trace.against(at, lead, other, adapter.clip.scale, text.ln_final, text.text_projection, score, layout)


class _Trace:
    """What N sequences of a tower add to the row that is read, the query.

    Attributes: taken (N, T, d) from each token's value; mlp, start, end (N, d); bias, what broadcasts to it.
    """

    def __init__(self, query: Tensor, group: str, ports: TowerPorts) -> None:
        self.query, self.group, self.ports = query, group, ports
        self.taken = self.mlp = self.bias = self.start = self.end = torch.zeros(())

    def _row(self, x: Tensor) -> Tensor:
        """The query's row of each sequence, (N, …, T, d) → (N, …, d); classes repeat where N counts images as well."""
        at = self.query.repeat(len(x) // len(self.query))
        return x[torch.arange(len(x), device=x.device), ..., at, :]

    def begin(self, module: nn.Module, args: tuple[Tensor, ...]) -> None:
        self.start = self._row(args[0])

    def attend(self, layer: int, block: Block, weights: Tensor, values: Tensor) -> None:
        out = block.attn.out_proj
        heads = self._row(weights)[..., None] * values  # (N, heads, T, d / heads)
        taken = F.linear(heads.transpose(1, 2).flatten(2), out.weight)
        missing = taken.shape[1] - (self.taken.shape[1] if self.taken.ndim else 0)
        self.taken = taken + (F.pad(self.taken, (0, 0, 0, missing)) if self.taken.ndim else 0)
        learned = [v for (at, _, group), v in self.ports.bias.items() if at == layer and group in ("all", self.group)]
        self.bias = self.bias + out.bias + sum(learned, torch.zeros_like(out.bias))

    def think(self, module: nn.Module, args: tuple[Tensor, ...], out: Tensor) -> None:
        self.mlp = self.mlp + self._row(out)

    def finish(self, module: nn.Module, args: tuple[Tensor, ...]) -> None:
        self.end = args[0].flatten(0, -2)

    def against(
        self,
        at: Tensor,
        lead: tuple[int, int],
        other: Tensor,
        scale: Tensor,
        norm: nn.LayerNorm,
        projection: Tensor,
        score: Tensor,
        layout: TokenLayout,
    ) -> TokenContributions:
        """Project on the direction in which the score with the other modality's features grows.

        Args:
            at: (B,) which of the N sequences. lead: their shape, images × views or images × texts.
            other: (B, D) unit features, or differences of two.
            norm, projection: that end the tower. scale: s.
        """
        end, other, projection = self.end[at].double(), other.double(), projection.double()
        mean, variance = end.mean(dim=-1, keepdim=True), end.var(dim=-1, keepdim=True, correction=0)
        sigma = (variance + norm.eps).sqrt()
        feature = ((end - mean) / sigma * norm.weight.double() + norm.bias.double()) @ projection
        factor = scale.double() / feature.norm(dim=-1)
        seen = other @ projection.T
        grows = norm.weight.double() * seen
        direction = factor[:, None] / sigma * (grows - grows.mean(dim=-1, keepdim=True))
        along = lambda part: (part[at].double() * direction).sum(dim=-1)
        return TokenContributions(
            tokens=torch.einsum("btd,bd->bt", self.taken[at].double(), direction),
            mlp=along(self.mlp),
            bias=along(self.bias.broadcast_to(*lead, end.shape[-1]).flatten(0, 1)),
            start=along(self.start),
            constant=factor * (seen @ norm.bias.double()),
            score=score.double(),
            layout=layout,
        )


@contextmanager
def _traced(blocks: list[Block], last: nn.Module, query: Tensor, group: str, ports: TowerPorts) -> Iterator[_Trace]:
    """Trace the next forward pass of a tower; afterwards nothing is left behind."""
    trace = _Trace(query, group, ports)
    with ExitStack() as stack:
        hook = lambda handle: stack.callback(handle.remove)
        hook(blocks[0].ln_1.register_forward_pre_hook(trace.begin))
        hook(last.register_forward_pre_hook(trace.finish))
        for layer, block in enumerate(blocks):
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
    elif ports.features is not None:
        why = "something learned follows the image tower (a features port). Use a method without a projector"
    elif out.image_features.shape[1] != 1 or not adapter.texts.one_vote_each:
        why = "each image needs one view and each class one text; this method has more"
    elif tower == "text" and (adapter.texts.ensemble or adapter.known_texts is not None):
        why = "the class texts are averages, or another CLIP's. Ask for the image tower"
    else:
        return
    raise ValueError(f"token_contributions: {why}.")
