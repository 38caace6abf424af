"""`features`: image features in two dimensions, with the class texts among them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from cliptune.analysis.scatter import Scatter, scatter
from cliptune.explain.figures import COLOURS, INK, MARKERS, figure
from cliptune.explain.opened import OpenedRun
from cliptune.explain.port import Explanation

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_NAMED = 40


class FeaturesExplanation(Explanation[Scatter]):
    name = "features"
    title = "Image features, and class texts among them"
    source = "t-SNE (van der Maaten and Hinton 2008); gap: arXiv:2203.02053"
    place = 12

    def explain(self, run: OpenedRun) -> Scatter:
        answers = run.answers()
        return scatter(answers.features, answers.labels, answers.text, run.class_names, seed=run.seed)

    def draw(self, found: Scatter) -> Mapping[str, Figure]:
        made, (axes,) = figure(height=3.8)
        for c in range(len(found.class_names)):
            x, y = found.images[found.labels == c].T.tolist() or ([], [])
            colour, marker = COLOURS[c % len(COLOURS)], MARKERS[(c // len(COLOURS)) % len(MARKERS)]
            axes.plot(x, y, marker, color=colour, markersize=3, alpha=0.6, linestyle="")
            if found.texts is not None:
                axes.plot(*[[v] for v in found.texts[c].tolist()], "*", color=colour, markersize=9)
                if len(found.class_names) <= _NAMED:
                    x, y = found.texts[c].tolist()
                    axes.annotate(
                        found.class_names[c], (x, y), (5, 3), textcoords="offset points", fontsize=7, color=INK
                    )
        axes.set_axis_off()
        axes.set_title("points: images, coloured by class" + ("" if found.texts is None else "; stars: class texts"))
        return {"tsne": made}
