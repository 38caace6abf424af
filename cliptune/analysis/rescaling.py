"""Does a prompt re-scale what CLIP attends to, or add a bias?  (arXiv:2312.11570)

With λ the attention that a query gives to the real tokens X, and P the prompt's, a head's output is exactly
λ · Attn_X + β, where Attn_X attends to X alone and β = Σ_P a_j v_j. The first term re-scales, the second is a bias.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from cliptune.adapter import Adapter
from cliptune.analysis.attention import image_embedding, pieces
from cliptune.analysis.finding import Finding
from cliptune.analysis.taps import Attended, blocks_of, own_blocks, tapped
from cliptune.batch import Batch
from cliptune.clip.ports import Ports

MODES = ("full", "rescale_only", "bias_only", "mean_bias_only", "none")
"""A head's output in the ablated models: λ Attn_X + β, λ Attn_X, Attn_X + β, Attn_X + E[β] and Attn_X."""
QUERIES = {"image": ("cls", "patch"), "text": ("eot", "word")}
"""The token that is read out, and the other real tokens that see the prompt."""


@dataclass(frozen=True)
class HeadParts:
    """The heads' outputs of one block, taken apart.

    Args:
        scale: λ (N, heads, T), in (0, 1].
        real: Attn_X (N, heads, T, d / heads).
        bias: β, as `real`.
        asks: (N, T, 2) float 0 or 1: which rows are read out, and which are other real tokens that see the prompt. What
            prompt tokens themselves attend to is left as it is.
    """

    scale: Tensor
    real: Tensor
    bias: Tensor
    asks: Tensor


def head_parts(at: Attended, tower: str) -> HeadParts:
    """λ, Attn_X and β of every head and row of a block."""
    group, names = at.each_layout, at.layout.names
    is_prompt = group == names.index("prompt")
    weights = at.weights
    hidden = weights.masked_fill(is_prompt[:, None, None], 0.0)
    # A query that looks at the prompt alone has no real attention: its Attn_X is 0, not 0 / 0.
    scale = hidden.sum(dim=-1).clamp_min(torch.finfo(weights.dtype).tiny)
    bias = (weights - hidden) @ at.values
    sees = is_prompt.cumsum(dim=-1) > 0 if tower == "text" else is_prompt.any(dim=-1, keepdim=True)
    read = group == names.index(QUERIES[tower][0])
    passed_over = [names.index(name) for name in ("prompt", "pad") if name in names]
    others = ~(read | torch.isin(group, torch.tensor(passed_over, device=group.device)))
    asks = torch.stack([read & sees, others & sees], dim=-1).to(weights.dtype)
    return HeadParts(scale, hidden @ at.values / scale[..., None], bias, asks)


@dataclass(frozen=True)
class PromptParts(Finding):
    """What the prompt does in every block and head of a tower, for its two kinds of queries (see `QUERIES`).

    Args:
        tower: "image" or "text".
        scale, scale_std: mean and standard deviation of λ, (L, heads, 2).
        share: mean of ‖W_O β‖ / ‖W_O out‖, (L, heads, 2), each head with its own part of W_O.
        block_share: the same of all heads of a block together, (L, 2).
        dependence: 1 − ‖E β‖² / E ‖β‖², (L, heads, 2), in [0, 1]: 0 where β is one vector, whatever the input.
        mean_bias: E β, (L, heads, 2, d / heads).
        n: images, or texts.
    All are float64.
    """

    tower: str
    scale: Tensor
    scale_std: Tensor
    share: Tensor
    block_share: Tensor
    dependence: Tensor
    mean_bias: Tensor
    n: int

    def sentence(self) -> str:
        query, others = QUERIES[self.tower]
        of = lambda values: (float(values[..., 0].mean()), float(values[..., 1].mean()))
        (scale, other_scale), (depends, other_depends) = of(self.scale), of(self.dependence)
        return (
            f"In the {self.tower} tower the prompt leaves λ = {scale:.2f} of the attention of {query} to real tokens "
            f"({others}: {other_scale:.2f}), and what it adds depends on the input by {depends:.2f} "
            f"({other_depends:.2f}), where 0 is one vector for all."
        )

    def to_json(self) -> dict[str, Any]:
        return {key: value for key, value in super().to_json().items() if key != "mean_bias"}


@torch.no_grad()
def prompt_parts(adapter: Adapter, batches: Iterable[Batch], tower: str = "image") -> PromptParts:
    """λ, β and the input dependence of β, over a data set.

    Args:
        adapter: whose prompt puts tokens into that tower.
        batches: images; the text tower needs them only where the text depends on the image.
        tower: "image" or "text".
    Raises: ValueError if there are no prompt tokens in that tower, or no image.
    """
    with adapter.evaluating():
        ports = adapter.prompt(seen=adapter.seen)
        if tower not in prompted_towers(adapter):
            raise ValueError(f"rescaling: no prompt tokens enter the {tower} tower of this adapter.")
        sums = _PartSums(adapter, tower)
        with tapped(adapter, tower, sums.add):
            for part in _parts(batches) if tower == "image" or ports.condition is not None else [None]:
                if tower == "image":
                    assert part is not None
                    image_embedding(adapter, part, ports)
                    continue
                own = ports.text
                if part is not None:
                    own = ports.text_given(F.normalize(image_embedding(adapter, part, ports), dim=-1))
                adapter.clip.encode_text(adapter.texts, own)
    return sums.means()


def prompted_towers(adapter: Adapter) -> tuple[str, ...]:
    """Those of "text" and "image" whose blocks attend to prompt tokens."""
    ports = adapter.prompt(seen=adapter.seen)
    text = bool(ports.text.tokens) and adapter.known_texts is None
    return tuple(tower for tower, has in (("text", text), ("image", bool(ports.image.tokens))) if has)


class _PartSums:
    """Sums over queries, per block, head and kind of query."""

    def __init__(self, adapter: Adapter, tower: str) -> None:
        self.tower, self.n = tower, 0
        blocks = own_blocks(adapter, tower)
        heads = blocks[0].attn.heads
        empty = lambda *shape: torch.zeros(*shape, dtype=torch.float64, device=adapter.clip.device)
        kinds = (len(blocks), heads, 2)
        self.count = empty(2)
        self.scale, self.squared, self.share, self.energy = (empty(*kinds) for _ in range(4))
        self.block_share, self.bias = empty(len(blocks), 2), empty(*kinds, blocks[0].attn.width // heads)

    def add(self, at: Attended) -> None:
        parts, i = head_parts(at, self.tower), at.layer
        asks = parts.asks.double()
        if i == 0:
            self.n += len(asks)
            self.count += asks.sum(dim=(0, 1))
        over = lambda values: torch.einsum("nht,ntk->hk", values.double(), asks)
        out = parts.scale[..., None] * parts.real + parts.bias
        self.scale[i] += over(parts.scale)
        self.squared[i] += over(parts.scale.double().square())
        self.energy[i] += over(parts.bias.square().sum(dim=-1))
        self.bias[i] += torch.einsum("nhtv,ntk->hkv", parts.bias.double(), asks)
        written, whole = _written(at, parts.bias), _written(at, out)
        self.share[i] += over(_ratio(written.norm(dim=-1), whole.norm(dim=-1)))
        together = _ratio(written.sum(dim=1).norm(dim=-1), whole.sum(dim=1).norm(dim=-1))
        self.block_share[i] += torch.einsum("nt,ntk->k", together.double(), asks)

    def means(self) -> PromptParts:
        if not self.n:
            raise ValueError("rescaling: there is no image to look at. Give batches of at least one image.")
        # Texts whose prompt stands last have no other row behind it.
        count = self.count.clamp_min(1)
        scale, energy, mean = self.scale / count, self.energy / count, self.bias / count[:, None]
        std = (self.squared / count - scale.square()).clamp_min(0).sqrt()
        pure = _ratio(mean.square().sum(dim=-1), energy)
        found = (scale, std, self.share / count, self.block_share / count, (1 - pure).clamp(0, 1), mean)
        scale, std, share, block_share, dependence, mean = (value.cpu() for value in found)
        return PromptParts(self.tower, scale, std, share, block_share, dependence, mean, self.n)


def _written(at: Attended, heads: Tensor) -> Tensor:
    """What each head's output writes into the residual stream, (N, heads, T, d)."""
    weight = at.block.attn.out_proj.weight.unflatten(1, (heads.shape[1], -1))
    return torch.einsum("nhtv,dhv->nhtd", heads, weight)


def _ratio(a: Tensor, b: Tensor) -> Tensor:
    return a / b.clamp_min(torch.finfo(b.dtype).tiny)


@contextmanager
def ablating(
    adapter: Adapter, tower: str, mode: str, mean_bias: Tensor | None = None, layers: Sequence[int] | None = None
) -> Iterator[None]:
    """Run the prompted blocks of a tower without one of the two things that a prompt does; all else is unchanged.

    Every block attends to the prompt: beyond the depth of a prompt, its tokens travel on and are hidden as well.

    Args:
        mode: one of `MODES`.
        mean_bias: E β (L, heads, 2, d / heads) for "mean_bias_only", from `prompt_parts` over training images.
        layers: blocks; None for all.
    Raises: ValueError for another mode, or a mean that is missing.
    """
    if mode not in MODES:
        raise ValueError(f"rescaling: mode must be one of {', '.join(MODES)}, got {mode!r}.")
    if mode == "mean_bias_only" and mean_bias is None:
        raise ValueError("rescaling: mode 'mean_bias_only' needs mean_bias. Take it from prompt_parts(...).mean_bias.")

    def see(at: Attended) -> Tensor:
        parts = head_parts(at, tower)
        whole = parts.scale[..., None] * parts.real + parts.bias
        if mode == "full":
            return whole
        left = whole - parts.bias if mode == "rescale_only" else parts.real
        if mode == "bias_only":
            left = left + parts.bias
        if mode == "mean_bias_only":
            assert mean_bias is not None
            left = left + torch.einsum("hkv,ntk->nhtv", mean_bias[at.layer].to(parts.asks), parts.asks)
        return torch.where(parts.asks.sum(dim=-1)[:, None, :, None] > 0, left, whole)

    with tapped(adapter, tower, see, layers):
        yield


@dataclass(frozen=True)
class Ablations(Finding):
    """Accuracies in % of the ablated models.

    Args:
        accuracy: "text", "image" or "both" → mode → accuracy with the modification there; "full" is the adapter itself.
        profile: tower → mode → accuracy with the first 0, 1, … L blocks modified.
        n: images; profile_n: images of the profiles, the first ones.
        remainder: largest difference of a logit between the adapter and "full" as it is put together from its parts.
    """

    accuracy: Mapping[str, Mapping[str, float]]
    profile: Mapping[str, Mapping[str, Sequence[float]]]
    n: int
    profile_n: int
    remainder: float

    def sentence(self) -> str:
        where = "both" if "both" in self.accuracy else next(iter(self.accuracy))
        of = self.accuracy[where]
        named = "both towers" if where == "both" else f"the {where} tower"
        return (
            f"With the prompt of {named} invisible, accuracy is {of['none']:.1f} % instead of {of['full']:.1f} %; its "
            f"bias alone makes it {of['bias_only']:.1f} %, one mean bias for all inputs {of['mean_bias_only']:.1f} %, "
            f"re-scaling alone {of['rescale_only']:.1f} % ({self.n} images)."
            + ("" if of["full"] > of["none"] else " There is no gain here that one of them could explain.")
        )

    def depth_sentence(self) -> str:
        """Where along the blocks hiding the prompt costs most, tower by tower, of a profile with "none"."""
        said = []
        for tower, of in self.profile.items():
            curve = of["none"]
            falls = [before - after for before, after in pairwise(curve)]
            most = max(range(len(falls)), key=falls.__getitem__)
            said.append(f"in the {tower} tower block {most} ({falls[most]:+.1f} points of {curve[0] - curve[-1]:+.1f})")
        return f"Hiding the prompt block by block costs most {' and '.join(said)}, over {self.profile_n} images."


@torch.no_grad()
def ablations(
    adapter: Adapter,
    batches: Iterable[Batch],
    mean_bias: Mapping[str, Tensor],
    *,
    profile: Sequence[str] = MODES[1:],
    profile_images: int | None = None,
) -> Ablations:
    """Accuracy of the five models, per tower and together, and with more and more blocks changed.

    Args:
        adapter: whose prompt puts tokens into a tower.
        batches: labelled images, looked at once.
        mean_bias: tower → E β over training images, from `prompt_parts`; of every prompted tower.
        profile: modes whose depth profile is made; each costs a pass per block.
        profile_images: the first so many images make the profiles; None for all.
    Raises: ValueError if no tower is prompted, or there is no image.
    """
    with adapter.evaluating():
        towers = prompted_towers(adapter)
        if not towers:
            raise ValueError("rescaling: no prompt tokens enter a tower of this adapter.")
        places = [*((tower,) for tower in towers), towers] if len(towers) > 1 else [towers]
        plans = {(where, mode): _Plan(where, mode) for where in places for mode in MODES}
        depths: dict[Any, _Plan] = {
            (tower, mode, blocks): _Plan((tower,), mode, blocks)
            for tower in towers
            for mode in profile
            for blocks in range(1, len(blocks_of(adapter, tower)) + 1)
        }
        tried = _Tried(adapter, mean_bias)
        right: dict[Any, int] = dict.fromkeys([*plans, *depths, "live", "profiled"], 0)
        n = profiled = 0
        remainder = 0.0
        for part in _parts(batches):
            live = tried.logits(part, None)
            n, right["live"] = n + len(part), right["live"] + _right(live, part)
            for model, plan in plans.items():
                logits = tried.logits(part, plan)
                right[model] += _right(logits, part)
                if plan.mode == "full":
                    remainder = max(remainder, float((logits - live).abs().max()))
            some = part if profile_images is None else part[: max(0, profile_images - profiled)]
            if len(some):
                profiled, right["profiled"] = profiled + len(some), right["profiled"] + _right(live[: len(some)], some)
                for key, plan in depths.items():
                    right[key] += _right(tried.logits(some, plan), some)
    if not n:
        raise ValueError("rescaling: there is no image to look at. Give batches of at least one image.")
    percent = lambda count, of: 100 * count / max(1, of)
    accuracy = {
        "both" if len(where) > 1 else where[0]: {
            mode: percent(right["live"] if mode == "full" else right[where, mode], n) for mode in MODES
        }
        for where in places
    }
    curve = lambda tower, mode: [
        percent(right["profiled"], profiled),
        *(percent(count, profiled) for key, count in right.items() if key[:2] == (tower, mode) and len(key) == 3),
    ]
    shapes = {tower: {mode: tuple(curve(tower, mode)) for mode in profile} for tower in towers}
    return Ablations(accuracy, shapes, n, profiled, remainder)


@dataclass(frozen=True)
class _Plan:
    """Which towers are changed, how, and in how many of their first blocks (None: all)."""

    towers: tuple[str, ...]
    mode: str
    blocks: int | None = None

    def only(self, tower: str) -> _Plan | None:
        return replace(self, towers=(tower,)) if tower in self.towers else None


class _Tried:
    """Logits of ablated models; texts that no image changes are encoded once, images once per model and batch."""

    def __init__(self, adapter: Adapter, mean_bias: Mapping[str, Tensor]) -> None:
        self.adapter, self.mean_bias = adapter, mean_bias
        self.ports: Ports = adapter.prompt(seen=adapter.seen)
        self.texts: dict[_Plan | None, Tensor | None] = {}
        self.images: dict[_Plan | None, Tensor] = {}
        self.batch: Batch | None = None

    def logits(self, batch: Batch, plan: _Plan | None) -> Tensor:
        if batch is not self.batch:
            self.batch, self.images = batch, {}
        image, text = (None if plan is None else plan.only(tower) for tower in ("image", "text"))
        embedding = self._kept(self.images, image, lambda: image_embedding(self.adapter, batch, self.ports))
        if self.ports.condition is None:
            known = self._kept(self.texts, text, self.adapter.text_features)
            return self.adapter(batch, text_features=known, image_embedding=embedding).logits
        with self._ablated(text):
            return self.adapter(batch, image_embedding=embedding).logits

    def _kept(self, kept: dict[Any, Any], plan: _Plan | None, make: Callable[[], Any]) -> Any:
        if plan not in kept:
            with self._ablated(plan):
                kept[plan] = make()
        return kept[plan]

    @contextmanager
    def _ablated(self, plan: _Plan | None) -> Iterator[None]:
        with ExitStack() as stack:
            if plan is not None:
                layers = None if plan.blocks is None else range(plan.blocks)
                for tower in plan.towers:
                    stack.enter_context(ablating(self.adapter, tower, plan.mode, self.mean_bias.get(tower), layers))
            yield


def _parts(batches: Iterable[Batch]) -> Iterator[Batch]:
    return (part for batch in batches for part in pieces(batch))


def _right(logits: Tensor, batch: Batch) -> int:
    return int((logits.argmax(dim=-1) == batch.labels).sum())
