"""`weights`: which causes count for which class, and whether other weights would fit better."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cliptune.analysis.finding import Finding
from cliptune.analysis.prm import Weighing, weighing
from cliptune.analysis.risk import RiskCheck, risk_check
from cliptune.explain.figures import figure, heat, legend
from cliptune.explain.opened import OpenedRun
from cliptune.explain.port import Explanation
from cliptune.heads import PRMHead

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_HEAVIEST = 3


@dataclass(frozen=True)
class Weights(Finding):
    """A run's reweighting matrix.

    Args:
        read: the matrix.
        heaviest: class → its three heaviest descriptions, each with its group and weight.
        risk: on the images that the run learned from.
    """

    read: Weighing
    heaviest: Mapping[str, list[tuple[str, str, float]]]
    risk: RiskCheck

    def sentence(self) -> str:
        return f"{self.causes_sentence()} {self.risk.sentence()}"

    def causes_sentence(self) -> str:
        """What the matrix says, without the risk."""
        read, mass = self.read, self.read.mass.mean(dim=0)
        first = int((mass - read.prior.mean(dim=0)).argmax())
        leads = sum(group == read.groups[first] for group, _ in read.leading().values())
        return (
            f"Of {len(read.groups)} groups {read.groups[first]!r} gained most: {100 * float(mass[first]):.0f} % of the "
            f"weight, where even weights give {100 * float(read.prior.mean(dim=0)[first]):.0f} %; it gained most in "
            f"{leads} of {len(read.class_names)} classes. A class uses {float(read.effective.mean()):.1f} of "
            f"{read.weight.shape[1]} descriptions."
        )


class WeightsExplanation(Explanation[Weights]):
    name = "weights"
    title = "Which causes count for which class"
    source = "arXiv:2506.01000, Sec. 4"
    place = 20

    def why_not(self, run: OpenedRun) -> str | None:
        head = run.adapter.head
        return None if isinstance(head, PRMHead) else f"The head, a {type(head).__name__}, has no reweighting matrix."

    def explain(self, run: OpenedRun) -> Weights:
        read = weighing(run.adapter)
        heaviest = {name: read.top(name, _HEAVIEST) for name in read.class_names}
        return Weights(read, heaviest, risk_check(run.adapter, run.batches("train")))

    def captions(self, found: Weights) -> Mapping[str, str]:
        return {"causes": found.causes_sentence(), "risk": found.risk.sentence()}

    def draw(self, found: Weights) -> Mapping[str, Figure]:
        read = found.read
        made, (axes,) = figure(height=1.6 + 0.22 * min(40, len(read.class_names)))
        names = read.class_names if len(read.class_names) <= 40 else ()
        heat(axes, read.mass.numpy(), rows=names, columns=read.groups, label="share of a class's weight", vmin=0)
        risks = {"best weights": found.risk.best, **found.risk.fixed}
        bars, (axis,) = figure(height=2.2)
        axis.barh(list(risks), list(risks.values()), color="#0072B2")
        axis.axvline(max(0.0, found.risk.bound), color="#D55E00", linestyle="--", label="no weighting is below")
        axis.set_xlabel("risk on training images (nats)")
        legend(axis)
        return {"causes": made, "risk": bars}
