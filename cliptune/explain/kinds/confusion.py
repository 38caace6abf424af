"""`confusion`: which classes are taken for which."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from cliptune.analysis.confusion import Confusion, confusion
from cliptune.explain.figures import figure, heat
from cliptune.explain.opened import OpenedRun
from cliptune.explain.port import Explanation

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_NAMED = 30


class ConfusionExplanation(Explanation[Confusion]):
    name = "confusion"
    title = "Which classes are taken for which"
    source = "counts"
    place = 10

    def explain(self, run: OpenedRun) -> Confusion:
        answers = run.answers()
        return confusion(answers.labels, answers.predicted, run.class_names)

    def draw(self, found: Confusion) -> Mapping[str, Figure]:
        share = found.counts / found.counts.sum(dim=1, keepdim=True).clamp_min(1)
        names = found.class_names if len(found.class_names) <= _NAMED else ()
        made, (axes,) = figure(height=3.8)
        heat(axes, share.numpy(), rows=names, columns=names, label="share of the true class", vmin=0, vmax=1)
        axes.set_xlabel("predicted")
        axes.set_ylabel("true")
        return {"matrix": made}
