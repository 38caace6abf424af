"""`rank`: how many directions the prompts of a run use, epoch by epoch, and whether that goes with its answers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from cliptune.analysis.mixing import token_matrices
from cliptune.analysis.spectrum import RankHistory, accuracy_of_each, rank_history
from cliptune.data.metrics import harmonic_mean
from cliptune.explain.figures import SMALL, figure, heat, legend, look
from cliptune.explain.opened import OpenedRun
from cliptune.explain.port import Explanation
from cliptune.runs import FixedPrompt, LoggedPrompt, read_prompts

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class RankExplanation(Explanation[RankHistory]):
    name = "rank"
    title = "How many directions the prompt uses, over the epochs"
    source = "arXiv:2312.10813, information density; the other measures are standard ones"
    place = 20

    def why_not(self, run: OpenedRun) -> str | None:
        if not _matrices(token_matrices(run.adapter.prompt(seen=run.adapter.seen))):
            return "No prompt matrix of at least two tokens enters a tower, so there are no singular values to look at."
        return None

    def explain(self, run: OpenedRun) -> RankHistory:
        logged = read_prompts(run.folder)
        if not logged:
            return rank_history(
                ["last"], [_matrices(token_matrices(run.adapter.prompt(seen=run.adapter.seen)))], {}, {}
            )
        accuracy, n = _accuracy(run, logged)
        epochs = [f"{one.stage} {one.epoch}" for one in logged]
        return rank_history(epochs, [_matrices(token_matrices(one.trained)) for one in logged], accuracy, n)

    def draw(self, found: RankHistory) -> Mapping[str, Figure]:
        if len(found.epochs) == 1:
            return {"values": _values(found)}
        made = {"density": _density(found), "values": _values(found)}
        return {**made, "correlation": _correlations(found)} if _correlates(found) else made

    def captions(self, found: RankHistory) -> Mapping[str, str]:
        if len(found.epochs) == 1:
            return {}
        first, last = [float(torch.stack([s.values[0] for s in found.spectra["P"][i]]).mean()) for i in (0, -1)]
        said = {
            "density": found.sentence(),
            "values": f"The largest singular value of P goes from {first:.3g} to {last:.3g} (mean over places).",
        }
        every = {
            (matrix, measure, name): one.rho
            for matrix, measures in found.correlations.items()
            for measure, names in measures.items()
            for name, one in names.items()
            if math.isfinite(one.rho)
        }
        if every:
            matrix, measure, name = most = max(every, key=lambda at: abs(every[at]))
            said["correlation"] = (
                f"Of {len(every)} correlations over epochs the strongest is that of the {measure.replace('_', ' ')} of "
                f"{matrix} with the accuracy {name}, ρ = {every[most]:+.2f}; the strongest of so many flatters."
            )
        return said


def _matrices(tokens: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Those of which the rank says something."""
    return {place: value for place, value in tokens.items() if value.shape[-2] > 1}


def _accuracy(run: OpenedRun, logged: Sequence[LoggedPrompt]) -> tuple[dict[str, Tensor], dict[str, int]]:
    """Of every epoch, on trained and on other classes; none where a line does not hold all that entered."""
    if not all(one.whole for one in logged):
        return {}, {}
    trained = str((run.result.get("data") or {}).get("classes", "all"))
    names = [trained, *({"base": ["new"], "new": ["base"]}.get(trained, []))]
    if run.adapter.prompt.class_specific or run.adapter.head.class_specific:
        names = names[:1]
    accuracy, n = {}, {}
    for name in names:
        own = run.adapter.for_texts(run.own("test", name).dataset.class_names)
        adapters = [own.with_prompt(FixedPrompt(one).eval()).to(own.clip.device) for one in logged]
        accuracy[name], n[name] = accuracy_of_each(adapters, run.batches("test", name))
    if len(names) == 2:
        pairs = zip(accuracy["base"].tolist(), accuracy["new"].tolist(), strict=True)
        accuracy["harmonic mean"] = torch.tensor([harmonic_mean(b, w) for b, w in pairs], dtype=torch.float64)
        n["harmonic mean"] = n["base"] + n["new"]
    return accuracy, n


def _density(found: RankHistory) -> Figure:
    made, axes = figure(2, 1, height=4.8)
    steps = range(len(found.epochs))
    for i, matrix in enumerate(found.spectra):
        axes[0].plot(steps, (100 * found.over_epochs(matrix, "density")).tolist(), label=matrix, **look(i))
    axes[0].set_ylabel(f"information density, k = {found.k} (%)")
    for i, (name, values) in enumerate(found.accuracy.items()):
        axes[1].plot(steps, values.tolist(), label=name, **look(i))
    axes[1].set_ylabel("accuracy (%)" if found.accuracy else "no accuracies of single epochs")
    for axis in axes:
        axis.set_xlabel(f"epoch ({found.epochs[0]} to {found.epochs[-1]})")
        if axis.lines:
            axis.legend(fontsize=SMALL)
    return made


def _values(found: RankHistory) -> Figure:
    made, axes = figure(len(found.spectra), 1, height=2.6 * len(found.spectra))
    for axis, (matrix, spectra) in zip(axes, found.spectra.items(), strict=True):
        m = min(len(spectrum.values) for spectrum in spectra[0])
        rows = [torch.stack([spectrum.values[:m] for spectrum in places]).mean(dim=0) for places in spectra]
        for i in range(min(m, 6)):
            axis.plot(range(len(rows)), [float(row[i]) for row in rows], label=f"σ{i + 1}", **look(i))
        axis.set_title(f"singular values of {matrix}")
        axis.set_xlabel("epoch")
    legend(axes[0], columns=6)
    return made


def _correlates(found: RankHistory) -> bool:
    """Is there any correlation, or is one side constant everywhere?"""
    every = [of for measures in found.correlations.values() for names in measures.values() for of in names.values()]
    return any(math.isfinite(of.rho) for of in every)


def _correlations(found: RankHistory) -> Figure:
    made, axes = figure(len(found.correlations), 1, height=2.8 * len(found.correlations))
    for axis, (matrix, measures) in zip(axes, found.correlations.items(), strict=True):
        values = torch.tensor([[of.rho for of in names.values()] for names in measures.values()])
        heat(
            axis,
            values.numpy(),
            rows=[name.replace("_", " ") for name in measures],
            columns=tuple(found.accuracy),
            label="Spearman's ρ",
            cmap="PuOr",
            vmin=-1,
            vmax=1,
        )
        axis.set_title(f"{matrix} and accuracy, over epochs")
    return made
