"""`classes`: accuracy class by class."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from cliptune.analysis.answers import ClassAccuracies, class_accuracies
from cliptune.explain.figures import COLOURS, INK, SMALL, figure, legend
from cliptune.explain.opened import OpenedRun
from cliptune.explain.port import Explanation

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_BARS = 60


class ClassesExplanation(Explanation[ClassAccuracies]):
    name = "classes"
    title = "Accuracy class by class"
    source = "counts, with Wilson's intervals"
    place = 10

    def explain(self, run: OpenedRun) -> ClassAccuracies:
        answers = run.answers()
        return class_accuracies(answers.labels, answers.predicted, answers.zero_shot.argmax(dim=-1), run.class_names)

    def draw(self, found: ClassAccuracies) -> Mapping[str, Figure]:
        """The worst ones, where there are too many to show."""
        order = found.accuracy.nan_to_num(nan=101).argsort()[:_BARS]
        order = order[found.n[order] > 0].flip(0)
        made, (axes,) = figure(height=1.4 + 0.2 * len(order))
        values = found.accuracy[order]
        error = [(values - found.low[order]).clamp_min(0).tolist(), (found.high[order] - values).clamp_min(0).tolist()]
        rows = list(range(len(order)))
        axes.barh(rows, values.tolist(), color=COLOURS[0], xerr=error, ecolor=INK, label="this run, 95 % interval")
        axes.plot(
            found.before[order].tolist(), rows, "D", color=COLOURS[1], markersize=4, clip_on=False, label="frozen CLIP"
        )
        axes.set_yticks(rows, [found.class_names[i] for i in order.tolist()], fontsize=SMALL)
        axes.set_xlabel("accuracy (%)")
        axes.set_xlim(0, 100)
        legend(axes)
        return {"bars": made}
