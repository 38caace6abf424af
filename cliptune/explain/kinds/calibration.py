"""`calibration`: are answers as sure as they are right?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from cliptune.analysis.answers import Reliability, reliability
from cliptune.explain.figures import COLOURS, INK, figure, legend
from cliptune.explain.opened import OpenedRun
from cliptune.explain.port import Explanation

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class CalibrationExplanation(Explanation[Reliability]):
    name = "calibration"
    title = "Are answers as sure as they are right?"
    source = "arXiv:1706.04599, Eq. 3"
    place = 10

    def explain(self, run: OpenedRun) -> Reliability:
        answers = run.answers()
        return reliability(answers.logits, answers.labels)

    def draw(self, found: Reliability) -> Mapping[str, Figure]:
        made, axes = figure(2, 1, height=4.2)
        bins = len(found.count)
        middle = [(i + 0.5) / bins for i in range(bins)]
        known = found.count > 0
        axes[0].bar(middle, found.accuracy.nan_to_num().tolist(), 0.9 / bins, color=COLOURS[0], label="right")
        axes[0].plot(
            found.confidence[known].tolist(),
            found.accuracy[known].tolist(),
            "D",
            color=COLOURS[1],
            markersize=4,
            label="mean confidence",
        )
        axes[0].plot([0, 1], [0, 1], "--", color=INK, label="as sure as right")
        axes[0].set_ylabel("share named rightly")
        legend(axes[0])
        axes[1].bar(middle, found.count.tolist(), 0.9 / bins, color=COLOURS[0])
        axes[1].set_ylabel("images")
        axes[1].set_xlabel("confidence")
        return {"reliability": made}
