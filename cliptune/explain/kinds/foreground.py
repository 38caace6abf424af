"""`foreground`: does the run look at the object?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from cliptune.analysis.foreground import WHO, Foreground, foreground
from cliptune.explain.figures import COLOURS, SMALL, figure, legend
from cliptune.explain.opened import OpenedRun
from cliptune.explain.port import Explanation

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class ForegroundExplanation(Explanation[Foreground]):
    name = "foreground"
    title = "How much of what is looked at is the object"
    source = "the question is that of arXiv:2508.00395, the score ours; rollout: arXiv:2005.00928"

    def why_not(self, run: OpenedRun) -> str | None:
        if run.adapter.prompt(seen=run.adapter.seen).pixels is not None:
            return "This method draws on the pixels, so that masks of the pictures do not fit what it sees."
        return None

    def explain(self, run: OpenedRun) -> Foreground:
        return foreground(run.adapter, run.batches(masked=True))

    def draw(self, found: Foreground) -> Mapping[str, Figure]:
        made, (axes,) = figure(height=3.4)
        hatches, groups = ("", "//"), ("right", "wrong")
        ticks, labels = [], []
        for m, (name, of) in enumerate(found.looks.items()):
            for g, group in enumerate(groups):
                ticks.append(3 * m + 1.2 * g)
                labels.append(f"{group}\n{name}" if g == 0 else f"{group}\n")
                for w, who in enumerate(WHO):
                    look = of[who][group]
                    bar: dict[str, Any] = {"color": COLOURS[w], "hatch": hatches[w], "edgecolor": "white"}
                    said = f"{who} training" if m == g == 0 else None
                    axes.bar(ticks[-1] + 0.4 * w - 0.2, 100 * look.on_foreground, 0.36, label=said, **bar)
                axes.hlines(100 * look.chance, ticks[-1] - 0.45, ticks[-1] + 0.45, colors="0.5", linestyles="--")
        axes.set_xticks(ticks, labels, fontsize=SMALL)
        axes.set_ylabel("on the object (%), dashes: chance")
        axes.set_xlabel("images that are named")
        legend(axes)
        return {"share": made}
