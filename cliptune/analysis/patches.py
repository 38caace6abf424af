"""Which patches of images the learned image tokens are like."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cliptune.adapter import Adapter
from cliptune.analysis.attention import image_embedding
from cliptune.analysis.finding import Finding
from cliptune.batch import Batch
from cliptune.clip.towers.image import VisionTransformer


@dataclass(frozen=True)
class NearPatch:
    """A patch that a prompt is like.

    Args:
        similarity: cosine. image: place in the data set. row, column: of the patch in the grid, from 0.
    """

    similarity: float
    image: int
    row: int
    column: int


@dataclass(frozen=True)
class LayerSimilarity:
    """Cosines between the prompts and the patches of one block, both behind its first LayerNorm.

    Args:
        mean: (n, G, G) of every prompt, mean over images.
        difference: (n,) mean over background patches minus mean over foreground patches, mean over the images that
            show both; None without masks. Above 0, a prompt looks more like background.
        spread: (n,) standard deviation of the difference over images.
        nearest: for every prompt, the most similar patches of all images, most similar first.
    """

    mean: Tensor
    difference: Tensor | None
    spread: Tensor | None
    nearest: tuple[tuple[NearPatch, ...], ...]


@dataclass(frozen=True)
class PatchSimilarity(Finding):
    """Similarity of image prompts to patches.  (arXiv:2312.11570, the claim that prompts look like background)

    Args:
        layers: block → what is seen there, for each block that prompts enter.
        n: images.
    """

    layers: Mapping[int, LayerSimilarity]
    n: int

    def sentence(self) -> str:
        depth, highest = len(self.layers), max(self.layers, key=lambda i: float(self.layers[i].mean.mean()))
        most = float(self.layers[highest].mean.mean())
        said = (
            f"The cosine of prompts with patches is {most:.2f} in block {highest}, the highest of {depth} prompted "
            f"blocks (mean over {self.n} images)"
        )
        known = [layer.difference for layer in self.layers.values() if layer.difference is not None]
        if not known:
            return f"{said}; without masks, background and foreground cannot be told apart."
        values = torch.cat(known)
        like = int((values > 0).sum())
        return (
            f"{said}; {like} of {len(values)} prompts look more like background than like the object, on average by "
            f"{float(values.mean()):+.3f}."
        )


@torch.no_grad()
def patch_similarity(adapter: Adapter, batches: Iterable[Batch], *, nearest: int = 8) -> PatchSimilarity:
    """Cosine of each image prompt with each patch, in front of the attention of every block that prompts enter.

    Both are compared behind the block's first LayerNorm, since only that of a prompt is used.

    Args:
        adapter: that puts tokens into the image tower.
        batches: images, perhaps with masks; `nearest` patches counts them from 0 on, in this order.
        nearest: patches kept for every prompt.
    Raises: ValueError without image prompts, or without an image.
    """
    with adapter.evaluating():
        ports = adapter.prompt(seen=adapter.seen)
        if not ports.image.tokens:
            raise ValueError("patches: no learned tokens enter the image tower of this adapter.")
        tower = adapter.clip.image
        assert isinstance(tower, VisionTransformer)  # no other tower takes tokens
        sums = {layer: _LayerSums(tower.patches, nearest) for layer in sorted(ports.image.tokens)}
        with ExitStack() as stack:
            for layer, own in sums.items():
                handle = tower.transformer.blocks[layer].ln_1.register_forward_hook(partial(_seen, own))
                stack.callback(handle.remove)
            for batch in batches:
                for own in sums.values():
                    own.masks = None if batch.masks is None else _on_grid(batch.masks, tower.patches)
                image_embedding(adapter, batch, ports)
    n = next(iter(sums.values())).n
    if not n:
        raise ValueError("patches: there is no image to look at. Give batches of at least one image.")
    return PatchSimilarity({layer: own.means() for layer, own in sums.items()}, n)


def _seen(sums: _LayerSums, module: nn.Module, args: tuple[Tensor, ...], out: Tensor) -> None:
    sums.add(out)


def _on_grid(masks: Tensor, patches: int) -> Tensor:
    """(B, 1, h, w) → (B, G²), the share of each patch that the mask covers."""
    return F.adaptive_avg_pool2d(masks.float(), round(patches**0.5)).flatten(1)


class _LayerSums:
    """Sums over the images of one block."""

    def __init__(self, patches: int, nearest: int) -> None:
        self.patches, self.nearest, self.n = patches, nearest, 0
        self.side = round(patches**0.5)
        self.masks: Tensor | None = None
        self.total = torch.zeros(())
        self.differences: list[Tensor] = []
        self.kept: list[list[tuple[float, int, int]]] = []

    def add(self, rows: Tensor) -> None:
        """Rows (B, 1 + G² + n, d) behind the LayerNorm."""
        unit = F.normalize(rows.double(), dim=-1)
        cosines = unit[:, 1 + self.patches :] @ unit[:, 1 : 1 + self.patches].mT  # (B, n, G²)
        self.total = self.total + cosines.sum(dim=0).cpu()
        if self.masks is not None:
            front = self.masks[:, None].double()
            # Where the crop left no object, or nothing else, 0 / 0 says so.
            mean = lambda share: (cosines * share).sum(dim=-1) / share.sum(dim=-1)
            self.differences.append((mean(1 - front) - mean(front)).cpu())
        self._keep(cosines)
        self.n += len(rows)

    def _keep(self, cosines: Tensor) -> None:
        self.kept = self.kept or [[] for _ in range(cosines.shape[1])]
        flat = cosines.transpose(0, 1).flatten(1)
        best = flat.topk(min(self.nearest, flat.shape[1]), dim=1)
        for kept, values, at in zip(self.kept, best.values.tolist(), best.indices.tolist(), strict=True):
            for value, place in zip(values, at, strict=True):
                image, patch = divmod(place, self.patches)
                # Of equal similarities, the earlier patch stays.
                heapq.heappush(kept, (value, -(self.n + image), -patch))
            while len(kept) > self.nearest:
                heapq.heappop(kept)

    def means(self) -> LayerSimilarity:
        mean = (self.total / self.n).unflatten(1, (self.side, self.side))
        difference = spread = None
        if self.differences:
            values = torch.cat(self.differences)
            difference = values.nanmean(dim=0)
            spread = (values - difference).square().nanmean(dim=0).sqrt()
        nearest = tuple(
            tuple(
                NearPatch(value, -image, *divmod(-patch, self.side))
                for value, image, patch in sorted(kept, reverse=True)
            )
            for kept in self.kept
        )
        return LayerSimilarity(mean, difference, spread, nearest)
