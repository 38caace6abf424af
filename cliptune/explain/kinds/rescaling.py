"""`rescaling-or-bias`: does the prompt re-scale attention, or add a bias?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cliptune.analysis.finding import Finding
from cliptune.analysis.rescaling import MODES, QUERIES, Ablations, PromptParts, ablations, prompt_parts, prompted_towers
from cliptune.explain.figures import COLOURS, MARKERS, SMALL, by_block, figure, legend
from cliptune.explain.opened import OpenedRun
from cliptune.explain.port import Explanation

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PROFILE_IMAGES = 64
"""Images of the depth profile, which takes a pass per block."""


@dataclass(frozen=True)
class Rescaling(Finding):
    """What the prompts of a run do.

    Args:
        ablations: accuracies of the ablated models, on test images; mean biases are those over training images.
        parts: tower → λ and β over test images.
    """

    ablations: Ablations
    parts: Mapping[str, PromptParts]

    def sentence(self) -> str:
        return " ".join([self.ablations.sentence(), *(part.sentence() for part in self.parts.values())])


class RescalingExplanation(Explanation[Rescaling]):
    name = "rescaling-or-bias"
    title = "Does the prompt re-scale attention, or add a bias?"
    source = "arXiv:2312.11570, the split of prompted attention; models and measures are ours"

    def why_not(self, run: OpenedRun) -> str | None:
        if prompted_towers(run.adapter):
            return None
        return "No prompt tokens enter a tower, so that there is no prompted attention to take apart."

    def explain(self, run: OpenedRun) -> Rescaling:
        adapter, towers = run.adapter, prompted_towers(run.adapter)
        means = {tower: prompt_parts(adapter, run.batches("train"), tower).mean_bias for tower in towers}
        parts = {tower: prompt_parts(adapter, run.batches(), tower) for tower in towers}
        return Rescaling(ablations(adapter, run.batches(), means, profile_images=PROFILE_IMAGES), parts)

    def captions(self, found: Rescaling) -> Mapping[str, str]:
        parts = {tower: part.sentence() for tower, part in found.parts.items()}
        return {"models": found.ablations.sentence(), "depth": found.ablations.depth_sentence(), **parts}

    def draw(self, found: Rescaling) -> Mapping[str, Figure]:
        made = {"models": _models(found.ablations), "depth": _depth(found.ablations)}
        for tower, parts in found.parts.items():
            made[tower] = _parts(parts)
        return made


def _models(found: Ablations) -> Figure:
    made, (axes,) = figure(height=3.0)
    for i, (where, of) in enumerate(found.accuracy.items()):
        marker = MARKERS[i % len(MARKERS)]
        axes.plot([of[mode] for mode in MODES], marker, color=COLOURS[i % len(COLOURS)], label=where, linestyle="")
    axes.set_xticks(
        range(len(MODES)), [mode.replace("_only", "\nonly").replace("_", " ") for mode in MODES], fontsize=SMALL
    )
    axes.set_ylabel("accuracy (%)")
    legend(axes, "changed in", columns=3)
    return made


def _depth(found: Ablations) -> Figure:
    import numpy as np

    made, axes = figure(len(found.profile), 1, height=0.5 + 2.4 * len(found.profile))
    for axis, (tower, of) in zip(axes, found.profile.items(), strict=True):
        by_block(axis, {mode.replace("_", " "): np.array(values) for mode, values in of.items()})
        axis.set_xlabel(f"first blocks of the {tower} tower that are changed")
        axis.set_ylabel(f"accuracy of {found.profile_n} (%)")
    legend(axes[0])
    return made


def _parts(found: PromptParts) -> Figure:
    made, axes = figure(3, 1, height=6.0)
    measures = {
        "λ: attention to real tokens": found.scale,
        "‖W β‖ / ‖W out‖": found.share,
        "input dependence of β": found.dependence,
    }
    for axis, (title, values) in zip(axes, measures.items(), strict=True):
        by_block(axis, {name: values[..., kind] for kind, name in enumerate(QUERIES[found.tower])})
        axis.set_title(title)
        axis.set_ylim(bottom=0)
    legend(axes[0], f"{found.tower} tower, query")
    return made
