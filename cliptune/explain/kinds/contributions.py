"""`contributions`: what each token adds to the score of a picture and its class."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

from cliptune.analysis.alignment import Estimator, Tower
from cliptune.analysis.finding import Finding
from cliptune.analysis.frozen import frozen
from cliptune.analysis.profile import ContributionProfile, contribution_profile
from cliptune.batch import Batch
from cliptune.explain.figures import COLOURS, MARKERS, SMALL, figure, legend
from cliptune.explain.opened import OpenedRun
from cliptune.explain.port import Explanation

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LEFT_OUT_IMAGES = 8
"""Images that tokens are left out of, which takes a pass per token."""


@dataclass(frozen=True)
class Contributions(Finding):
    """Contributions in a run's towers.

    Args:
        profiles: "image" and "text", with each of the three estimators; "image margin", against the best other class;
            "image frozen" and "text frozen", of the frozen CLIP with the classes' own template.
        why_not: tower → a sentence, where it has none.
    """

    profiles: Mapping[str, ContributionProfile]
    why_not: Mapping[str, str]

    def sentence(self) -> str:
        said = [self.profiles[f"{tower} direct"].sentence() for tower in ("image", "text") if tower not in self.why_not]
        return " ".join([*said, *self.why_not.values()])


class ContributionsExplanation(Explanation[Contributions]):
    name = "contributions"
    title = "What each token adds to the score"
    source = "arXiv:2312.11570, figs. 2 and 3; the estimators are ours, since it states none"

    def explain(self, run: OpenedRun) -> Contributions:
        profiles: dict[str, ContributionProfile] = {}
        why_not: dict[str, str] = {}
        towers: tuple[Tower, ...] = ("image", "text")
        for tower in towers:
            try:
                profiles |= {f"{tower} {name}": profile for name, profile in _profiles(run, tower)}
            except ValueError as error:
                why_not[tower] = str(error)
        if not profiles:
            raise ValueError(" ".join(dict.fromkeys(why_not.values())))
        return Contributions(profiles, why_not)

    def draw(self, found: Contributions) -> Mapping[str, Figure]:
        made = {}
        for tower in ("image", "text"):
            if tower in found.why_not:
                continue
            made[tower], axes = figure(3, 1, height=6.4)
            for axis, estimator in zip(axes, ("direct", "gradient", "leave_one_out"), strict=True):
                _places(axis, found.profiles[f"{tower} {estimator}"])
            legend(axes[0])
            axes[-1].set_xlabel(f"token of the {tower} tower, colour: group")
        made["parts"] = _parts(found)
        return made

    def captions(self, found: Contributions) -> Mapping[str, str]:
        towers = [tower for tower in ("text", "image") if tower not in found.why_not]
        of = {tower: (found.profiles[f"{tower} frozen"], found.profiles[f"{tower} direct"]) for tower in towers}
        carried = [
            f"{now.shares['tokens']:.0f} % in the {tower} tower ({before.shares['tokens']:.0f} % in the frozen CLIP)"
            for tower, (before, now) in of.items()
        ]
        said = {tower: learned.sentence() for tower, (_, learned) in of.items()}
        return {**said, "parts": f"With what was learned, tokens carry {' and '.join(carried)} of the score."}


def _profiles(run: OpenedRun, tower: Tower) -> Iterator[tuple[str, ContributionProfile]]:
    adapter = run.adapter
    yield "direct", contribution_profile(adapter, run.batches(), tower)
    yield "gradient", contribution_profile(adapter, run.batches(), tower, "gradient")
    few = _first(run.batches(), LEFT_OUT_IMAGES)
    estimator: Estimator = "leave_one_out"
    yield estimator, contribution_profile(adapter, few, tower, estimator)
    if tower == "image" and len(run.class_names) > 1:
        yield "margin", contribution_profile(adapter, run.batches(), tower, margin=True)
    yield "frozen", contribution_profile(frozen(adapter), run.batches(), tower)


def _first(batches: Iterator[Batch], n: int) -> Iterator[Batch]:
    for batch in islice(batches, 1):
        yield batch[:n]


def _places(axes: Axes, found: ContributionProfile) -> None:
    """Mean and spread at every place: bars for all images, marks for those that were gained."""
    names = list(dict.fromkeys(found.places))
    at: Any = range(len(found.places))
    colours = [COLOURS[names.index(name) % len(COLOURS)] for name in found.places]
    axes.bar(at, found.everything.mean.numpy(), color=colours, yerr=found.everything.spread.numpy(), ecolor="#7a7f87")
    if found.gained.n:
        label = f"gained: {found.gained.n} images"
        axes.plot(at, found.gained.mean.numpy(), MARKERS[2], color=COLOURS[3], markersize=3, label=label)
    for name in names:
        axes.bar([0], [0], color=COLOURS[names.index(name) % len(COLOURS)], label=name)
    axes.set_title(f"{found.estimator.replace('_', ' ')}, {found.everything.n} images")
    axes.set_ylabel("share")


def _parts(found: Contributions) -> Figure:
    """Shares of the score that tokens, MLPs and the rest carry, with what was learned and without."""
    shown = {
        f"{tower}, {name}": found.profiles[f"{tower} {key}"]
        for tower in ("text", "image")
        if tower not in found.why_not
        for key, name in (("frozen", "frozen CLIP"), ("direct", "learned"))
    }
    made, (axes,) = figure(height=1.4 + 0.4 * len(shown))
    for i, profile in enumerate(shown.values()):
        starts = {True: 0.0, False: 0.0}
        for j, (name, value) in enumerate(profile.parts.items()):
            sign = value >= 0
            axes.barh(
                i,
                value,
                left=starts[sign],
                color=COLOURS[j],
                edgecolor="white",
                hatch=("", "//", "..", "xx", "--")[j],
                label=name if i == 0 else None,
            )
            starts[sign] += value
        axes.plot([profile.score], [i], "D", color="#7a7f87", label="score" if i == 0 else None)
    axes.set_yticks(range(len(shown)), list(shown), fontsize=SMALL)
    axes.set_xlabel("part of the score s · cos (mean)")
    legend(axes, columns=3)
    return made
