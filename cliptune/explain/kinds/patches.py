"""`prompt-patches`: which patches of the pictures the image prompts are like."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from cliptune.analysis.finding import Finding
from cliptune.analysis.patches import NearPatch, PatchSimilarity, patch_similarity
from cliptune.data.transforms import test_transform
from cliptune.explain.figures import COLOURS, DIVERGING, SMALL, figure
from cliptune.explain.opened import OpenedRun
from cliptune.explain.port import Explanation

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_NEAREST = 6
_PROMPTS = 4
"""Prompts of a block that have pictures of their own."""


@dataclass(frozen=True)
class PromptPatches(Finding):
    """Patches that a run's prompts are like.

    Args:
        similarity: the numbers.
        crops: block → (prompts, nearest, 3, 3 p, 3 p) in [0, 1], the nearest patches with what is around them; patches
            of p pixels. For pictures alone.
    """

    similarity: PatchSimilarity
    crops: Mapping[int, Tensor]

    def sentence(self) -> str:
        return self.similarity.sentence()

    def to_json(self) -> dict[str, Any]:
        return self.similarity.to_json()


class PatchesExplanation(Explanation[PromptPatches]):
    name = "prompt-patches"
    title = "Which patches the image prompts are like"
    source = "arXiv:2312.11570, the claim that prompts look like overlooked background; the measure is ours"

    def why_not(self, run: OpenedRun) -> str | None:
        if run.adapter.prompt(seen=run.adapter.seen).image.tokens:
            return None
        return "No learned tokens enter the image tower, so there is nothing that patches could be like."

    def explain(self, run: OpenedRun) -> PromptPatches:
        found = patch_similarity(run.adapter, run.batches(masked=True), nearest=_NEAREST)
        crops = {
            layer: torch.stack([torch.stack([_crop(run, near) for near in of]) for of in similarity.nearest[:_PROMPTS]])
            for layer, similarity in found.layers.items()
        }
        return PromptPatches(found, crops)

    def draw(self, found: PromptPatches) -> Mapping[str, Figure]:
        made = {"maps": _maps(found.similarity), "nearest": _nearest(found)}
        if all(layer.difference is not None for layer in found.similarity.layers.values()):
            made["background"] = _background(found.similarity)
        return made

    def captions(self, found: PromptPatches) -> Mapping[str, str]:
        layers = found.similarity.layers
        near = {(i, k): one[0].similarity for i, layer in layers.items() for k, one in enumerate(layer.nearest)}
        block, prompt = max(near, key=lambda at: near[at])
        said = {
            "maps": found.sentence(),
            "nearest": f"The nearest of all patches has a cosine of {near[block, prompt]:.2f} with prompt {prompt + 1} "
            f"of block {block}.",
        }
        differences = {i: layer.difference for i, layer in layers.items() if layer.difference is not None}
        if differences:
            apart = {(i, k): float(value) for i, values in differences.items() for k, value in enumerate(values)}
            block, prompt = max(apart, key=lambda at: apart[at])
            said["background"] = (
                f"Prompt {prompt + 1} of block {block} leans most to the background: its cosine with that, less that "
                f"with the object, is {apart[block, prompt]:+.3f}."
            )
        return said


def _crop(run: OpenedRun, near: NearPatch) -> Tensor:
    """(3, 3 p, 3 p): the patch with one more on every side; grey beyond the picture."""
    size: int = run.adapter.clip.config.patch
    transform = test_transform(run.adapter.resolution, preprocessing=run.adapter.clip.preprocessing)
    picture = transform(run.split().image(near.image))
    assert isinstance(picture, Tensor)
    wide = F.pad(picture, (size, size, size, size), value=0.5)
    return wide[:, near.row * size : (near.row + 3) * size, near.column * size : (near.column + 3) * size]


def _maps(found: PatchSimilarity) -> Figure:
    """Mean cosine with the patch at every place, a row for each block and a column for each prompt."""
    layers, prompts = found.layers, min(_PROMPTS, min(len(layer.mean) for layer in found.layers.values()))
    made, axes = figure(len(layers), prompts, height=(3.4 / prompts + 0.3) * len(layers))
    most = max(float(layer.mean.abs().max()) for layer in layers.values())
    shown: Any = None
    for row, (number, layer) in enumerate(layers.items()):
        for column in range(prompts):
            axis = axes[row * prompts + column]
            shown = axis.imshow(layer.mean[column].numpy(), cmap=DIVERGING, vmin=-most, vmax=most)
            axis.set_title(f"{number} / {column + 1}", fontsize=SMALL)
            axis.set_axis_off()
    made.colorbar(shown, ax=axes, label="mean cosine of block / prompt", fraction=0.04)
    return made


def _nearest(found: PromptPatches) -> Figure:
    rows = [
        (f"{layer}/{prompt + 1}", crops[prompt], found.similarity.layers[layer].nearest[prompt])
        for layer, crops in found.crops.items()
        for prompt in range(len(crops))
    ]
    columns = max(len(crops) for _, crops, _ in rows)
    made, axes = figure(len(rows), columns, height=0.4 + 0.85 * len(rows))
    for axis in axes:
        axis.set_xticks([])
        axis.set_yticks([])
    for row, (name, crops, near) in enumerate(rows):
        for column, (crop, patch) in enumerate(zip(crops, near, strict=True)):
            axis, third = axes[row * columns + column], crop.shape[-1] / 3
            axis.imshow(crop.permute(1, 2, 0).clamp(0, 1).numpy())
            axis.plot(
                [third, 2 * third, 2 * third, third, third],
                [third, third, 2 * third, 2 * third, third],
                color=COLOURS[1],
                linewidth=1,
            )
            axis.set_title(f"{patch.similarity:.2f}", fontsize=7)
        axes[row * columns].set_ylabel(name, fontsize=SMALL)
    made.supylabel("block / prompt", fontsize=8, color="#7a7f87")
    return made


def _background(found: PatchSimilarity) -> Figure:
    """Mean and spread over images of background minus foreground, prompt by prompt."""
    named = [
        (f"{number}/{k + 1}", float(layer.difference[k]), float(layer.spread[k]))
        for number, layer in found.layers.items()
        if layer.difference is not None and layer.spread is not None
        for k in range(len(layer.difference))
    ]
    names, means, spreads = zip(*named, strict=True)
    made, (axes,) = figure(height=2.8)
    axes.errorbar(range(len(names)), means, yerr=spreads, fmt="o", color=COLOURS[0], capsize=2)
    axes.axhline(0, color="#7a7f87", linewidth=0.8)
    axes.set_xticks(range(len(names)), names, rotation=90 if len(names) > 8 else 0, fontsize=SMALL)
    axes.set_xlabel("block / prompt")
    axes.set_ylabel("cosine, background − object")
    return made
