"""The named places at which the frozen CLIP is open. Methods enter here and nowhere else.

| port | shape | meaning |
|---|---|---|
| `pixels` | images (B, 3, h, w) in [0, 1], batch → (B, V, 3, R, R), normalised | the views of an image |
| `tokens[layer]` | (*lead, n, d) | at that block's input, drop the prompt rows left by the block before, put these in |
| `bias[layer, site, group]` | (*lead, d) | added to the residual stream there |
| `delta[layer, projection]` | `Delta` of (r, d) and (d, r) | added to the map that makes q, k or v there |
| `norm[layer, site, part]` | (d,) | added to the scale or the shift of a LayerNorm |
| `projection[read_out]` | (d, D) | added to the last map of the tower; or the map of a second read-out |
| `inserted[layer]` | (*lead, n, d) | rows that stand in the sequence from that block on, unseen by those before |
| `features` | (B, V, D) → (B, V, D') | after the image tower, before unit norm |
| `text_features` | (I, C, D) → (I, C, D) | after the text tower and the mean of a class's sentences, before unit norm |
| `text_lengths` | bool | what `text_features` gives is compared as it is, its length included |
| `condition` | (text ports, unit image features (B, V, D)) → text ports | text that depends on the image |

`lead` broadcasts to the tower's batch: (B, V) for images, (I, K) for texts, with I = 1 or B. So (n, d) is shared by
all, (K, n, d) is class-specific, (B, 1, n, d) is per instance; no flag tells them apart.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from cliptune.clip.deltas import PROJECTIONS, Delta, DeltaKey
from cliptune.clip.deltas import mixed as mixed_delta

BiasKey = tuple[int, str, str]
SITES = ("attn_out", "mlp_out")
NormKey = tuple[int, str, str]
NORMS = ("pre", "attn", "mlp", "post")
PARTS = ("scale", "shift")
READ_OUTS = ("first", "second")
KINDS = ("tokens", "bias", "delta", "norm", "projection", "inserted")

PixelPort = Callable[[Tensor, Any], Tensor]
FeaturePort = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class TowerPorts:
    """What enters one tower; a layer that is absent lets the prompt rows of the block before flow on.

    Args:
        tokens: layer → (*lead, n, d); in the text tower deeper layers may have fewer, which replace the last ones.
        bias: (layer, site, group) → (*lead, d); site "attn_out" or "mlp_out"; group "all" or a token name
            (image: "cls", "patch", "prompt"; text: "sos", "prompt", "class", "eot").
        delta: (layer, projection) → low-rank change of the frozen map; projection "q", "k" or "v".
        norm: (layer, site, part) → (d,), what is added to a LayerNorm's "scale" or "shift"; site "attn" or "mlp" for
            the one in front of that part of a block, "pre" in front of block 0 (image), "post" behind the last block.
        projection: "first" → (d, D), added to the map from the row that is read out to the embedding; "second" →
            (d, D), the map of a second read-out, the mean of the inserted rows behind the last LayerNorm. The tower
            then gives two embeddings per view, side by side: (B, 2 V, D).
        inserted: layer → (*lead, n, d), rows that no block before sees: behind the start of a text, so that all words
            see them, or behind the patches, without position. From the first such layer on they are part of the
            sequence; later layers replace them.
        flow: share of what the block before made of the inserted rows that is added to those that replace them.
    """

    tokens: Mapping[int, Tensor] = field(default_factory=dict)
    bias: Mapping[BiasKey, Tensor] = field(default_factory=dict)
    delta: Mapping[DeltaKey, Delta] = field(default_factory=dict)
    norm: Mapping[NormKey, Tensor] = field(default_factory=dict)
    projection: Mapping[str, Tensor] = field(default_factory=dict)
    inserted: Mapping[int, Tensor] = field(default_factory=dict)
    flow: float = 0.0

    def __post_init__(self) -> None:
        if self.tokens and min(self.tokens) != 0:
            raise ValueError(
                f"TowerPorts: prompt tokens must start at layer 0, got layers {sorted(self.tokens)}. "
                "Deeper layers replace the rows that layer 0 put in."
            )
        for layer, site, group in self.bias:
            if site not in SITES:
                raise ValueError(
                    f"TowerPorts: a bias site must be one of {', '.join(SITES)}, "
                    f"got {site!r} (layer {layer}, group {group!r})."
                )

        for layer, projection in self.delta:
            if projection not in PROJECTIONS:
                raise ValueError(
                    f"TowerPorts: a delta changes one of {', '.join(PROJECTIONS)}, got {projection!r} (layer {layer})."
                )

        for layer, site, part in self.norm:
            if site not in NORMS or part not in PARTS:
                raise ValueError(
                    f"TowerPorts: a LayerNorm stands at one of {', '.join(NORMS)} and has the parts "
                    f"{' and '.join(PARTS)}, got {site!r} and {part!r} (layer {layer})."
                )
        if strangers := set(self.projection) - set(READ_OUTS):
            raise ValueError(
                f"TowerPorts: a projection belongs to one of the read-outs {', '.join(READ_OUTS)}, got {strangers}."
            )
        if "second" in self.projection and not self.inserted:
            raise ValueError(
                "TowerPorts: the second read-out is the mean of inserted rows, and none are given. Insert some."
            )

    @property
    def kinds(self) -> frozenset[str]:
        """Which of `KINDS` are given."""
        return frozenset(kind for kind in KINDS if getattr(self, kind))

    @property
    def empty(self) -> bool:
        return not self.kinds

    @property
    def read_outs(self) -> int:
        """Embeddings per view."""
        return 2 if "second" in self.projection else 1

    def deltas(self, layer: int) -> dict[str, Delta]:
        """Projection → delta of one block."""
        return {projection: delta for (at, projection), delta in self.delta.items() if at == layer}

    def norms(self, layer: int, site: str) -> dict[str, Tensor]:
        """Part → what is added to it in one LayerNorm."""
        return {part: value for (at, where, part), value in self.norm.items() if (at, where) == (layer, site)}

    def leaves(self) -> Iterator[tuple[tuple[str, Any], Tensor]]:
        yield from ((("tokens", layer), value) for layer, value in self.tokens.items())
        yield from ((("bias", key), value) for key, value in self.bias.items())
        for key, delta in self.delta.items():
            yield ("delta", (*key, "down")), delta.down
            yield ("delta", (*key, "up")), delta.up
        for kind in ("norm", "projection", "inserted"):
            yield from (((kind, key), value) for key, value in getattr(self, kind).items())

    def map(self, fn: Callable[[Tensor], Tensor]) -> TowerPorts:
        return TowerPorts(
            {k: fn(v) for k, v in self.tokens.items()},
            {k: fn(v) for k, v in self.bias.items()},
            {k: v.map(fn) for k, v in self.delta.items()},
            {k: fn(v) for k, v in self.norm.items()},
            {k: fn(v) for k, v in self.projection.items()},
            {k: fn(v) for k, v in self.inserted.items()},
            self.flow,
        )

    def check(self, who: str, layers: int, width: int, embed: int) -> None:
        """Raise a sentence if a leaf does not fit a tower of `layers` blocks, that width and embedding size."""
        for read_out, value in self.projection.items():
            if value.shape != (width, embed):
                raise ValueError(
                    f"{who}: projection[{read_out}] must have shape {(width, embed)}, got {tuple(value.shape)}. "
                    "Build the prompt for this backbone."
                )
        for (kind, key), value in (leaf for leaf in self.leaves() if leaf[0][0] != "projection"):
            layer = key[0] if isinstance(key, tuple) else key
            if not 0 <= layer < layers:
                raise ValueError(
                    f"{who}: prompts may enter blocks 0 to {layers - 1}, got block {layer}. "
                    f"Use a depth of at most {layers} for this backbone."
                )
            own = value.shape[0] if kind == "delta" and key[-1] == "up" else value.shape[-1]
            if own != width:
                raise ValueError(
                    f"{who}: {kind}[{key}] must have width {width}, got shape {tuple(value.shape)}. "
                    "Build the prompt for this backbone."
                )


def called(tower: object) -> str:
    """What to call a tower in a sentence: a foreign one by what it wraps, any other by its class."""
    name: str = getattr(tower, "kind", type(tower).__name__)
    return name


def check_open(who: str, tower: Any, which: str, kinds: Iterable[str]) -> None:
    """Raise a sentence if a tower is not open at some kinds of ports.

    Args: who: asks. tower: with `open_at`. which: "image" or "text".
    """
    if closed := sorted(set(kinds) - tower.open_at):
        raise ValueError(
            f"{who}: the {which} tower of this backbone, a {called(tower)}, has no place for "
            f"{' and '.join(SAID[kind] for kind in closed)}. Use a ViT backbone of OpenAI's form, or another method."
        )


SAID = {
    "tokens": "prompt tokens",
    "bias": "biases",
    "delta": "changes of its attention",
    "norm": "changes of its LayerNorms",
    "projection": "a change of its projection",
    "inserted": "rows from a later block on",
}
EMPTY = TowerPorts()
Condition = Callable[[TowerPorts, Tensor], TowerPorts]


@dataclass(frozen=True)
class Ports:
    """Everything a prompt puts into CLIP. Empty ports are the frozen CLIP exactly.

    Args:
        image, text: what enters the towers.
        pixels: None stands for one view, normalised with the tower's mean and standard deviation.
        features, text_features: None stands for the identity.
        condition: late rule for text that depends on the image; None if it does not.
        text_lengths: texts keep the lengths that `text_features` gives them, instead of unit norm.
    """

    image: TowerPorts = EMPTY
    text: TowerPorts = EMPTY
    pixels: PixelPort | None = None
    features: FeaturePort | None = None
    condition: Condition | None = None
    text_features: FeaturePort | None = None
    text_lengths: bool = False

    def text_given(self, image_features: Tensor) -> TowerPorts:
        """The text ports once the unit image features (B, V, D) are known."""
        return self.text if self.condition is None else self.condition(self.text, image_features)

    def compared(self, embedding: Tensor) -> Tensor:
        """Text embeddings (I, K, D), as `text_features` gives them, as images are compared with them."""
        return embedding if self.text_lengths else F.normalize(embedding, dim=-1)


def compose(a: Ports, b: Ports) -> Ports:
    """Join two sets of ports. Raises: ValueError if both write one leaf."""
    return Ports(
        image=_joined("image", a.image, b.image),
        text=_joined("text", a.text, b.text),
        pixels=_only("pixels", a.pixels, b.pixels),
        features=_only("features", a.features, b.features),
        condition=_only("condition", a.condition, b.condition),
        text_features=_only("text_features", a.text_features, b.text_features),
        text_lengths=a.text_lengths or b.text_lengths,
    )


def mix(a: Ports, b: Ports, weight: float) -> Ports:
    """Interpolate leaf by leaf: weight · b + (1 − weight) · a; conditions are called first, then mixed.

    Acts on what enters the tower, never on factors or maps. `pixels`, `features` and `text_features` cannot be
    interpolated and must be the same object in both.
    """
    for name in ("pixels", "features", "text_features"):
        if getattr(a, name) is not getattr(b, name):
            raise ValueError(
                f"mix: the two prompts have different `{name}` ports, which cannot be interpolated. "
                "Give both the same one."
            )
    condition: Condition | None = None
    if a.condition is not None or b.condition is not None:

        def condition(_: TowerPorts, image_features: Tensor) -> TowerPorts:
            return _mixed("text", a.text_given(image_features), b.text_given(image_features), weight)

    return replace(
        a,
        image=_mixed("image", a.image, b.image, weight),
        text=_mixed("text", a.text, b.text, weight),
        condition=condition,
    )


def _joined(tower: str, a: TowerPorts, b: TowerPorts) -> TowerPorts:
    for kind in KINDS:
        both = set(getattr(a, kind)) & set(getattr(b, kind))
        if both:
            raise ValueError(
                f"compose: two prompts both write {tower}.{kind}{sorted(both)}. "
                "Give one of them other layers, or use a wrapper that mixes prompts."
            )
    if a.inserted and b.inserted:
        raise ValueError(f"compose: two prompts both insert rows into the {tower} tower. Only one may.")
    joined: dict[str, Any] = {kind: {**getattr(a, kind), **getattr(b, kind)} for kind in KINDS}
    return TowerPorts(**joined, flow=a.flow if a.inserted else b.flow)


def _only(name: str, a: Any, b: Any) -> Any:
    if a is not None and b is not None:
        raise ValueError(f"compose: two prompts both set the `{name}` port. Only one may.")
    return a if a is not None else b


def _mixed(tower: str, a: TowerPorts, b: TowerPorts, weight: float) -> TowerPorts:
    if any(set(getattr(a, kind)) != set(getattr(b, kind)) for kind in KINDS) or a.flow != b.flow:
        raise ValueError(
            f"mix: the two prompts enter the {tower} tower at different places "
            f"({sorted(a.tokens)} and {sorted(b.tokens)}). Mix prompts of one kind and depth."
        )
    plain: dict[str, Any] = {
        kind: {k: torch.lerp(v, getattr(b, kind)[k], weight) for k, v in getattr(a, kind).items()}
        for kind in KINDS
        if kind != "delta"
    }
    delta = {k: mixed_delta(v, b.delta[k], weight) for k, v in a.delta.items()}
    return TowerPorts(**plain, delta=delta, flow=a.flow)
