"""Image towers of timm and open_clip, open at `tokens`, `bias` and `delta` where they have patches and blocks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import reduce
from typing import Any

import torch
from torch import Tensor, nn

from cliptune.clip.foreign.blocks import Stack, known_blocks
from cliptune.clip.ports import EMPTY, SITES, TowerPorts, check_open
from cliptune.clip.towers.blocks import projected
from cliptune.clip.towers.image import ImageTower, check_views
from cliptune.clip.towers.layout import bias_rows, image_layout


class ClosedTower(ImageTower):
    """An image tower that is open at `pixels` and `features` only, and at `projection` where it ends in a linear map.

    Args:
        model: images (N, 3, R, R) → (N, D).
        kind: what to call it in a sentence. why: it has no place for prompts, as a phrase.
        width: d, for methods that ask. resolution: R. embed: D.
    """

    def __init__(self, model: nn.Module, kind: str, why: str, width: int, resolution: int, embed: int) -> None:
        super().__init__()
        self.model, self.kind, self.why = model, kind, why
        self.width, self.resolution, self.embed = width, resolution, embed

    @property
    def open_at(self) -> frozenset[str]:  # type: ignore[override]
        return frozenset() if self.last_map is None else frozenset({"projection"})

    @property
    def last_map(self) -> Tensor | None:
        last = last_linear(self.model)
        return None if last is None else last.weight.T

    def forward(self, views: Tensor, ports: TowerPorts = EMPTY) -> Tensor:
        """Encode views (B, V, 3, R, R), normalised → (B, V, D), not unit-norm.

        Raises: ValueError if image tokens, biases or deltas are given.
        """
        if ports.kinds - self.open_at:
            raise ValueError(
                f"{self.kind}: this image tower takes no prompt tokens, biases or deltas, and some were given, because "
                f"{self.why}. Use a ViT backbone for this method, or a method that prompts the text or the pixels only."
            )
        check_views(self.kind, views, self.resolution)
        if ports.projection:
            ports.check(self.kind, 0, len(self.last_map), self.embed)  # type: ignore[arg-type]  # open, so there is one
        with added_to(last_linear(self.model), ports.projection.get("first")):
            features: Tensor = self.model(views.flatten(0, 1).to(_dtype(self)))
        return features.view(*views.shape[:2], -1)


class PatchTower(ImageTower):
    """An image tower of patches and transformer blocks, of timm or open_clip, walked here so that ports open.

    Args:
        model: of the library, images (N, 3, R, R) → (N, D). stem, end: see `Stem` and `End`.
        blocks: between them. kind: what to call it in a sentence.
        resolution: R. width: d. embed: D. patches: G². prefix: rows in front of the patches, a class token or none.
        gathers: whether the end attends over all rows ("map" pooling).

    Image tokens follow the patches, as in CLIP's own ViT: those of layer 0 before the first LayerNorm, without learned
    or rotary position; deeper ones replace the rows that the block before left.

    A class token is read as it is. An average is taken over the patches alone, as VPT does (arXiv:2203.12119, for
    Swin). Attention pooling is one more attention, so that it sees prompts as the class token of CLIP does in each
    block; `hide_prompts = True` hides them from it. `watch` is that of CLIP's own ViT.
    """

    def __init__(
        self,
        model: nn.Module,
        stem: Stem,
        blocks: Stack,
        end: End,
        *,
        kind: str,
        resolution: int,
        width: int,
        embed: int,
        patches: int,
        prefix: int,
        gathers: bool,
    ) -> None:
        super().__init__()
        self.model, self.stem, self.end, self.transformer = model, stem, end, blocks
        self.kind, self.resolution, self.width, self.embed = kind, resolution, width, embed
        self.patches, self.prefix, self.gathers = patches, prefix, gathers
        self.hide_prompts = False
        self.watch: Callable[[Tensor], Tensor] | None = None

    @property
    def open_at(self) -> frozenset[str]:  # type: ignore[override]
        own = frozenset({"tokens", "bias", "delta"})
        return own if self.last_map is None else own | {"projection"}

    @property
    def last_map(self) -> Tensor | None:
        return self.end.last_map

    @property
    def layers(self) -> int:
        return len(self.transformer)

    def forward(self, views: Tensor, ports: TowerPorts = EMPTY) -> Tensor:
        """Encode views (B, V, 3, R, R), normalised → (B, V, D), not unit-norm."""
        lead = views.shape[:2]
        check_views(self.kind, views, self.resolution)
        check_open(self.kind, self, "image", ports.kinds)
        ports.check(self.kind, self.layers, self.width, self.embed)
        self._check_groups(ports)
        x, rope = self.stem.rows(views.flatten(0, 1).to(_dtype(self)))
        real, patches = x.shape[1], slice(self.prefix, self.prefix + self.patches)
        if 0 in ports.tokens:
            x = torch.cat([x, self._spread(ports.tokens[0], lead)], dim=1)
        x = self.stem.norm(x)
        for i, block in enumerate(self.transformer.blocks):
            if i > 0 and i in ports.tokens:
                x = torch.cat([x[:, :real], self._spread(ports.tokens[i], lead)], dim=1)
            layout = image_layout(self.patches, x.shape[1] - real, x.device, self.prefix)
            biases = [
                None if b is None else self._spread(b, lead) for b in (bias_rows(ports, i, s, layout) for s in SITES)
            ]
            seen = block.looked_at(x)
            if self.watch is not None and i == self.layers - 1:
                seen = self.watch(seen)
            x = block(x, seen, ports.deltas(i), biases, _of_block(rope, i), patches)
        seen = x if self.gathers and not self.hide_prompts else x[:, :real]
        pooled = self.end(seen, ports.projection.get("first"))
        return pooled.view(*lead, -1)

    def _check_groups(self, ports: TowerPorts) -> None:
        if not self.prefix and any(group == "cls" for _, _, group in ports.bias):
            raise ValueError(
                f"{self.kind}: this image tower has no class token, and a bias for one was given. Give one bias to all "
                "tokens."
            )

    def _spread(self, value: Tensor, lead: torch.Size) -> Tensor:
        """(*lead, n, d), any leading sizes that broadcast to (B, V) → (B V, n, d) in the tower's dtype."""
        return value.to(_dtype(self)).expand(*lead, *value.shape[-2:]).flatten(0, 1)


class Stem:
    """What a tower does before its first block."""

    def __init__(self, model: Any) -> None:
        self.model = model

    def rows(self, images: Tensor) -> tuple[Tensor, Any]:
        """(N, 3, R, R) → rows with positions (N, T, d), and rotary positions of the patches, or None."""
        raise NotImplementedError

    def norm(self, x: Tensor) -> Tensor:
        """Rows and prompts → what the first block takes."""
        raise NotImplementedError


class End:
    """What a tower does after its last block."""

    def __init__(self, model: Any) -> None:
        self.model = model

    @property
    def last_map(self) -> Tensor | None:
        """(d, D); None where the tower does not end in a linear map."""
        last = last_linear(self.model)
        return None if last is None else last.weight.T

    def __call__(self, x: Tensor, added: Tensor | None = None) -> Tensor:
        """Rows (N, T, d) → (N, D). Args: added: to the last map."""
        raise NotImplementedError


def last_linear(model: Any) -> nn.Linear | None:
    """The linear map that an image model ends in: open_clip's, or the classifier of timm in its place."""
    for place in ("head.proj", "trunk.head.fc", "trunk.head", "head"):
        found = reduce(lambda part, name: getattr(part, name, None), place.split("."), model)
        if isinstance(found, nn.Linear):
            return found
    return None


@contextmanager
def added_to(last: nn.Linear | None, added: Tensor | None) -> Iterator[None]:
    """Inside the block a linear map of x gives x · added more."""
    if last is None or added is None:
        yield
        return
    hook = last.register_forward_hook(lambda _, given, out: out + given[0] @ added.to(out.dtype))
    try:
        yield
    finally:
        hook.remove()


class _TimmStem(Stem):
    """Of open_clip's wrapper around a trunk of timm."""

    def rows(self, images: Tensor) -> tuple[Tensor, Any]:
        trunk = self.model.trunk
        x = trunk._pos_embed(trunk.patch_embed(images))
        return x if isinstance(x, tuple) else (x, None)

    def norm(self, x: Tensor) -> Tensor:
        normed: Tensor = self.model.trunk.norm_pre(x)
        return normed


class _TimmEnd(End):
    def __call__(self, x: Tensor, added: Tensor | None = None) -> Tensor:
        trunk = self.model.trunk
        with added_to(last_linear(self.model), added):
            pooled: Tensor = self.model.head(trunk.forward_head(trunk.norm(x)))
        return pooled


class _OpenClipStem(Stem):
    """Of open_clip's own ViT."""

    def rows(self, images: Tensor) -> tuple[Tensor, Any]:
        model = self.model
        x = model.conv1(images).flatten(2).mT
        x = torch.cat([model.class_embedding.to(x.dtype).expand(len(x), 1, -1), x], dim=1)
        return x + model.positional_embedding.to(x.dtype), None

    def norm(self, x: Tensor) -> Tensor:
        normed: Tensor = self.model.ln_pre(x)
        return normed


class _OpenClipEnd(End):
    @property
    def last_map(self) -> Tensor | None:
        found: Tensor | None = self.model.proj
        return found

    def __call__(self, x: Tensor, added: Tensor | None = None) -> Tensor:
        pooled: Tensor = self.model._pool(x)[0]
        return pooled if self.model.proj is None else projected(pooled, self.model.proj, added)


class _First(nn.Module):
    """A model of which the first output is taken."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    @property
    def head(self) -> Any:
        """Where `last_linear` looks."""
        return getattr(self.model, "head", None)

    @property
    def trunk(self) -> Any:
        return getattr(self.model, "trunk", None)

    def forward(self, images: Tensor) -> Tensor:
        found = self.model(images)
        first: Tensor = found[0] if isinstance(found, tuple) else found
        return first


def image_tower(model: Any, embed: int) -> ImageTower:
    """The visual part of an open_clip model behind ports: open at all of them where its parts are known.

    Args:
        model: `visual` of a model that open_clip built. embed: D.
    """
    trunk = getattr(model, "trunk", model)
    library = type(trunk).__module__.partition(".")[0]
    kind = f"{type(trunk).__name__} of {library}"
    why = _closed(trunk)
    blocks = known_blocks(_blocks_of(trunk)) if why is None else why
    if isinstance(blocks, str):
        width = int(getattr(trunk, "num_features", embed))
        return ClosedTower(_First(model), kind, blocks, width, _side(model, trunk), embed)
    timm = trunk is not model
    return PatchTower(
        model,
        _TimmStem(model) if timm else _OpenClipStem(model),
        Stack(blocks),
        _TimmEnd(model) if timm else _OpenClipEnd(model),
        kind=kind,
        resolution=_side(model, trunk),
        width=trunk.embed_dim if timm else trunk.conv1.out_channels,
        embed=embed,
        patches=trunk.patch_embed.num_patches if timm else trunk.positional_embedding.shape[0] - 1,
        prefix=trunk.num_prefix_tokens if timm else 1,
        gathers=getattr(trunk, "attn_pool", None) is not None,
    )


def _closed(trunk: nn.Module) -> str | None:
    """Why a tower has no place for prompts, as a phrase; None where it may have."""
    name = type(trunk).__name__
    if name not in ("VisionTransformer", "Eva"):
        return f"a {name} has no rows of patches that attend to each other throughout"
    pool = getattr(trunk, "attn_pool", None)
    if pool is not None and getattr(pool, "pos_embed", None) is not None:
        return "its pooling knows the position of each row"
    if getattr(trunk, "global_pool", "") in ("max", "avgmax"):
        return "it takes the largest value of all rows"
    return None


def _blocks_of(trunk: Any) -> Sequence[nn.Module]:
    blocks: Sequence[nn.Module] = trunk.blocks if hasattr(trunk, "blocks") else trunk.transformer.resblocks
    return blocks


def _side(model: Any, trunk: Any) -> int:
    # What the trunk was built for; open_clip's own figure is not always that (ViTamin-XL-384 says 256).
    embed = getattr(trunk, "patch_embed", None)
    size = getattr(embed, "img_size", None) or model.image_size
    return int(size[0] if isinstance(size, tuple) else size)


def _of_block(rope: Any, layer: int) -> Any:
    """Rotary positions of one block: (patches, 2 · head width) for all alike, or with one dimension more for each."""
    return rope[layer] if rope is not None and rope.ndim > 2 else rope


def _dtype(tower: nn.Module) -> torch.dtype:
    return next(tower.parameters()).dtype
