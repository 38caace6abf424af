"""`dpc`: what lies between the two prompts of a run, and what their mixture answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from cliptune.analysis.channels import ChannelInvariance, channel_invariance
from cliptune.analysis.finding import Finding
from cliptune.analysis.mixing import (
    Batches,
    Linearity,
    MixingCurve,
    linearity,
    mixed_prompt,
    mixing_curve,
    token_matrices,
    two_prompts,
)
from cliptune.explain.figures import figure, heat, legend, look
from cliptune.explain.opened import OpenedRun
from cliptune.explain.port import Explanation
from cliptune.explain.siblings import family
from cliptune.runs import load

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class TwoPrompts(Finding):
    """The two prompts of a run.

    Args:
        channels: beside controls; None where no tokens enter a tower.
        linearity: of the encoders between the two.
        curve: accuracy over ω.
    """

    channels: ChannelInvariance | None
    linearity: Linearity
    curve: MixingCurve

    def sentence(self) -> str:
        parts = [self.curve, *([] if self.channels is None else [self.channels]), self.linearity]
        return " ".join(part.sentence() for part in parts)


class DPCExplanation(Explanation[TwoPrompts]):
    name = "dpc"
    title = "What lies between the tuned and the parallel prompt"
    source = "arXiv:2503.13443, its claims and its ablation of ω; the measures are ours"
    place = 20

    def why_not(self, run: OpenedRun) -> str | None:
        if mixed_prompt(run.adapter) is None:
            return "The run has one prompt, so there is nothing to mix; add-on dpc trains a second one."
        return None

    def explain(self, run: OpenedRun) -> TwoPrompts:
        tuned, parallel = (token_matrices(ports) for ports in two_prompts(run.adapter))
        channels = channel_invariance(tuned, parallel, _other_seed(run)) if tuned else None
        return TwoPrompts(channels, linearity(run.adapter, run.batches), mixing_curve(run.adapter, dict(_halves(run))))

    def draw(self, found: TwoPrompts) -> Mapping[str, Figure]:
        made = {"accuracy": _curve(found.curve)}
        if found.channels is not None:
            made["channels"] = _channels(found.channels)
        if found.linearity.text is not None or found.linearity.image is not None:
            made["linearity"] = _linearity(found.linearity)
        return made

    def captions(self, found: TwoPrompts) -> Mapping[str, str]:
        parts = {"accuracy": found.curve, "channels": found.channels, "linearity": found.linearity}
        return {name: part.sentence() for name, part in parts.items() if part is not None}


def _halves(run: OpenedRun) -> list[tuple[str, tuple[tuple[str, ...], Batches]]]:
    """Trained classes, and where these are one half the other, unless the adapter knows no others."""
    trained = str((run.result.get("data") or {}).get("classes", "all"))
    names = [trained, *({"base": ["new"], "new": ["base"]}.get(trained, []))]
    if run.adapter.prompt.class_specific or run.adapter.head.class_specific:
        names = names[:1]
    return [
        (name, (run.own("test", name).dataset.class_names, lambda name=name: run.batches("test", name)))  # type: ignore[misc]
        for name in names
    ]


def _other_seed(run: OpenedRun) -> dict[str, Tensor] | None:
    """The tuned prompt of a run that differs in its seed alone, if there is one."""
    own = run.folder.resolve()
    others = [one.folder for one in family(run, "seed") if one.folder.resolve() != own]
    if not others:
        return None
    other = load(others[0], clip=run.adapter.clip, device=run.adapter.clip.device)
    return token_matrices(two_prompts(other)[0])


def _curve(found: MixingCurve) -> Figure:
    made, (axes,) = figure(height=3.2)
    for i, (name, values) in enumerate(found.accuracy.items()):
        axes.plot(found.weights, values.tolist(), label=f"{name} classes", **look(i))
        axes.axvline(found.used[name], color=look(i)["color"], linestyle=look(i)["linestyle"], linewidth=0.8)
    axes.set_xlabel("ω, of the parallel prompt (thin: used by the run)")
    axes.set_ylabel("accuracy (%)")
    legend(axes)
    return made


def _channels(found: ChannelInvariance) -> Figure:
    measures = ("spearman", "pearson", "jaccard", "cosine", "drift")
    values = torch.tensor([[found.mean(pair, measure) for measure in measures] for pair in found.pairs])
    made, (axes,) = figure(height=2.6)
    heat(axes, values.numpy(), rows=tuple(found.pairs), columns=measures, label="mean over layers", vmin=0, vmax=1)
    axes.set_title("the tuned prompt beside …")
    return made


def _linearity(found: Linearity) -> Figure:
    made, (axes,) = figure(height=2.8)
    for i, (tower, values) in enumerate((("text", found.text), ("image", found.image))):
        if values is not None:
            axes.plot(found.weights, (1 - values).tolist(), label=f"{tower} encoder", **look(i))
    axes.set_xlabel("ω, weight of the parallel prompt")
    axes.set_ylabel("1 − cosine to the straight line")
    legend(axes)
    return made
