"""`trade-off`: what is won on trained classes and lost on new ones, over the options of runs beside this one."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cliptune.analysis.finding import Finding
from cliptune.analysis.trade_off import Curve, agreement, curve, gradient
from cliptune.data.metrics import harmonic_mean
from cliptune.explain.figures import over_values
from cliptune.explain.opened import OpenedRun
from cliptune.explain.port import Explanation
from cliptune.explain.siblings import family
from cliptune.results.tables import Finished

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class TradeOff(Finding):
    """Base and new classes against each other.

    Args:
        curves: one for each option in which runs beside this one differ from it.
        cosine: of the gradients of the loss on training images and on images of the new classes, with respect to what
            learns; NaN where one is zero, None where there are no new classes. It looks at test images: a diagnosis,
            and nothing to choose by.
    """

    curves: tuple[Curve, ...]
    cosine: float | None

    def sentence(self) -> str:
        said = [one.sentence() for one in self.curves]
        if self.cosine is not None and not math.isfinite(self.cosine):
            said.append(
                "At the end of training the gradient of one of the two losses is 0, so there is no way to compare."
            )
        elif self.cosine is not None:
            way = "pull the same way" if self.cosine > 0 else "do not pull the same way"
            said.append(
                f"At the end of training the losses on trained and on new classes {way}: the cosine of their gradients "
                f"is {self.cosine:+.2f}."
            )
        return " ".join(said)


class TradeOffExplanation(Explanation[TradeOff]):
    name = "trade-off"
    title = "What is won on trained classes and lost on new ones"
    source = "runs beside this one; the gradients are ours"
    place = 25

    def explain(self, run: OpenedRun) -> TradeOff:
        curves = []
        for name in _numbers(run):
            found = family(run, "seed", name)
            values = {one.options.get(name) for one in found}
            if len(values) > 1:
                curves.append(curve(name, [(json.loads(one.options[name]), _both(one)) for one in found]))
        cosine = _cosine(run)
        if not curves and cosine is None:
            raise ValueError(
                "Nothing to weigh: the run knows no new classes, and no run beside it differs in one option. Train on "
                "--classes base, or say where such runs are: --among FOLDER."
            )
        return TradeOff(tuple(curves), cosine)

    def draw(self, found: TradeOff) -> Mapping[str, Figure]:
        return {"options": over_values(found.curves)} if found.curves else {}


def _numbers(run: OpenedRun) -> list[str]:
    """Options of the method that are numbers."""
    options = run.config.get("options") or {}
    return [name for name, value in options.items() if isinstance(value, (int, float)) and not isinstance(value, bool)]


def _both(one: Finished) -> Mapping[str, float]:
    scores = {name: value for name, value in one.scores.items() if " " not in name}
    if {"base", "new"} <= scores.keys():
        scores["harmonic mean"] = harmonic_mean(scores["base"], scores["new"])
    return scores


def _cosine(run: OpenedRun) -> float | None:
    trained = str((run.result.get("data") or {}).get("classes", "all"))
    other = {"base": "new", "new": "base"}.get(trained)
    adapter = run.adapter
    if other is None or adapter.prompt.class_specific or adapter.head.class_specific or not adapter.trainable():
        return None
    new = adapter.for_texts(run.own("test", other).dataset.class_names)
    return agreement(gradient(adapter, run.batches("train")), gradient(new, run.batches("test", other)))
