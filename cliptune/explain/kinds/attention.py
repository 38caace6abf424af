"""`attention`: where the query of each tower looks, and how far and how evenly patches look."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cliptune.analysis.attention import GroupAttention, Reach, image_attention, text_attention
from cliptune.analysis.finding import Finding
from cliptune.explain.figures import by_block, figure, legend
from cliptune.explain.opened import OpenedRun
from cliptune.explain.port import Explanation

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Attention(Finding):
    """Attention of a run's towers.

    Args:
        image, reach: of the image tower; None where it has no tokens.
        text: of the text tower; None where another CLIP encoded the texts.
    """

    image: GroupAttention | None
    text: GroupAttention | None
    reach: Reach | None

    def sentence(self) -> str:
        return " ".join(part.sentence() for part in (self.image, self.text, self.reach) if part is not None)


class AttentionExplanation(Explanation[Attention]):
    name = "attention"
    title = "Where attention goes"
    source = "arXiv:2312.11570, figs. 4 and 5"

    def why_not(self, run: OpenedRun) -> str | None:
        if not run.is_vit and run.adapter.known_texts is not None:
            return (
                "Neither tower has attention to look at: the image tower is a ResNet, and another CLIP has the texts."
            )
        return None

    def explain(self, run: OpenedRun) -> Attention:
        image, reach = image_attention(run.adapter, run.batches(masked=True)) if run.is_vit else (None, None)
        known = run.adapter.known_texts is not None
        return Attention(image, None if known else text_attention(run.adapter, run.batches()), reach)

    def draw(self, found: Attention) -> Mapping[str, Figure]:
        made = {}
        for groups in (found.image, found.text):
            if groups is not None:
                made[groups.tower] = _groups(groups)
        if found.reach is not None:
            made["reach"], axes = figure(2, 1, height=4.8)
            for axis, name, unit in zip(axes, ("distance", "entropy"), ("pixels", "nats"), strict=True):
                by_block(axis, found.reach.curves(name))
                axis.set_ylabel(f"{name} ({unit})")
            legend(axes[0])
        return made

    def captions(self, found: Attention) -> Mapping[str, str]:
        parts = {"image": found.image, "text": found.text, "reach": found.reach}
        return {name: part.sentence() for name, part in parts.items() if part is not None}


def _groups(found: GroupAttention) -> Figure:
    made, axes = figure(2, 1, height=4.8)
    for axis, values, title in zip(
        axes, (found.frozen, found.prompted), ("frozen CLIP", "with what was learned"), strict=True
    ):
        by_block(axis, {name: values[..., g] for g, name in enumerate(found.groups)})
        axis.set_title(f"{found.tower} tower, {title}")
        axis.set_ylim(0, 1)
        axis.set_ylabel("share of attention")
    legend(axes[1], columns=3)
    return made
