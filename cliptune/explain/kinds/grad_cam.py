"""`grad-cam`: where images speak for the class that they are taken for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from cliptune.analysis.overlays import Overlays, laid_over, overlays
from cliptune.explain.figures import gallery
from cliptune.explain.opened import OpenedRun
from cliptune.explain.port import Explanation

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SHOWN = 6


class GradCAMExplanation(Explanation[Overlays]):
    name = "grad-cam"
    title = "Where pictures speak for their answer"
    source = "arXiv:1610.02391, Eqs. 1 and 2"

    def why_not(self, run: OpenedRun) -> str | None:
        if run.adapter.prompt(seen=run.adapter.seen).pixels is not None:
            return "This method draws on the pixels, so that a map of what it sees does not fit the picture."
        return None

    def explain(self, run: OpenedRun) -> Overlays:
        answers = run.answers()
        sure = answers.logits.softmax(dim=-1).max(dim=-1).values
        wrong = (~answers.right).nonzero()[:, 0]
        wrong = wrong[sure[wrong].argsort(descending=True)][: SHOWN // 2]
        right = answers.right.nonzero()[:, 0][: SHOWN - len(wrong)]
        chosen = [*wrong.tolist(), *right.tolist()]
        split = run.split()
        return overlays(run.adapter, run.batch_of(chosen), [split.ids[i] for i in chosen])

    def draw(self, found: Overlays) -> Mapping[str, Figure]:
        pictures, words = [], []
        for one in found.shown:
            pictures += [one.picture.permute(1, 2, 0), laid_over(one.picture, one.before)]
            pictures += [laid_over(one.picture, one.after)]
            verdict = "rightly" if one.true == one.predicted else f"is {one.true}"
            words += [f"{one.predicted}, {one.probability:.0%}", "frozen CLIP", f"trained ({verdict})"]
        return {"maps": gallery(pictures, words, columns=3)}
