"""`mistakes`: the most certain mistakes, as pictures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from cliptune.analysis.answers import Mistake, Mistakes, most_certain_mistakes
from cliptune.explain.figures import gallery
from cliptune.explain.opened import OpenedRun
from cliptune.explain.port import Explanation

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class MistakesExplanation(Explanation[Mistakes]):
    name = "mistakes"
    title = "The most certain mistakes"
    source = "probabilities of the run"
    place = 11

    def explain(self, run: OpenedRun) -> Mistakes:
        answers = run.answers()
        at = most_certain_mistakes(answers.logits, answers.labels)
        shown: list[Mistake] = []
        if len(at):
            pictures = run.batch_of(at.tolist()).images.cpu()
            sure = answers.logits.softmax(dim=-1)
            for i, picture in zip(at.tolist(), pictures, strict=True):
                true, named = int(answers.labels[i]), int(answers.predicted[i])
                names = run.class_names[true], run.class_names[named]
                shown.append(Mistake(run.split().ids[i], *names, float(sure[i, named]), float(sure[i, true]), picture))
        return Mistakes(tuple(shown), int((~answers.right).sum()), len(answers.labels))

    def draw(self, found: Mistakes) -> Mapping[str, Figure]:
        if not found.shown:
            return {}
        words = [f"{one.predicted} {one.probability:.0%}, is {one.true}" for one in found.shown]
        return {"gallery": gallery([one.picture.permute(1, 2, 0) for one in found.shown], words)}
