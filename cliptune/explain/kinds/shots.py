"""`shots`: accuracy against training images per class, from runs beside this one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from cliptune.analysis.trade_off import Curve, curve
from cliptune.explain.figures import over_values
from cliptune.explain.opened import OpenedRun
from cliptune.explain.port import Explanation
from cliptune.explain.siblings import family

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_FOLLOWS_SHOTS = "epochs"


class ShotsExplanation(Explanation[Curve]):
    name = "shots"
    title = "Accuracy against training images per class"
    source = "the runs that lie beside this one"
    place = 13

    def explain(self, run: OpenedRun) -> Curve:
        """Published recipes train for longer with more shots, so the number of epochs may differ."""
        found = family(run, "seed", "shots", _FOLLOWS_SHOTS)
        points = [(one.shots, one.scores) for one in found if one.shots is not None]
        if len({shots for shots, _ in points}) < 2:
            raise ValueError(
                "No run with another number of shots, but the same in all else, lies beside this one. Say where they "
                "are: --among FOLDER."
            )
        return curve("shots", points)

    def draw(self, found: Curve) -> Mapping[str, Figure]:
        return {"accuracy": over_values([found])}
