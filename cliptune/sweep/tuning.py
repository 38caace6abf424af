"""A small search of options before a grid: on seeds of its own, by validation accuracy, the same for every method."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

from cliptune.runs import read_result
from cliptune.runs.spec import RunSpec
from cliptune.sweep.cells import Cell
from cliptune.sweep.grid import Sweep
from cliptune.sweep.running import Outcome
from cliptune.sweep.sharing import place_cells, teacher_run

FOLDER = "tuning"
"""Below the folder of the grid; tables leave its runs out."""
CHOSEN_ON = "validation images"


@dataclass(frozen=True)
class Choice:
    """Of one method on one data set, number of shots and backbone.

    Args:
        title: of a run that it is for, without the seed.
        options: that were best.
        accuracy: in %, on validation images, the mean over the tuning seeds.
        tried: how many candidates there were.
    """

    title: str
    options: Mapping[str, Any]
    accuracy: float
    tried: int


class Search:
    """The runs of a search, and what is chosen by them.

    Each candidate is trained on the classes and shots of the grid's runs, with other seeds, and scored on the
    validation images that go with them; test images are not looked at. A student learns from a teacher of its own seed
    that has the grid's options. The best mean over the seeds is taken, of equal
    ones the first.

    Args:
        sweep: the grid.
        candidates: method → options to try, on top of those that the grid gives it; a method that is left out, or has
            none, is not searched.
        seeds: of the search; none of them among the grid's.
        out: folder of the grid.
    Raises: ValueError for a seed that is also reported, or a protocol that fixes its training images otherwise.
    """

    def __init__(
        self, sweep: Sweep, candidates: Mapping[str, Sequence[Mapping[str, Any]]], seeds: Sequence[int], out: str | Path
    ):
        shared = sorted(set(seeds) & set(sweep.seeds))
        if shared or not seeds:
            twice = f"{', '.join(map(str, shared))} would be both" if seeds else "there are none to choose on"
            raise ValueError(
                f"bench: options are chosen on seeds that are not reported, but {twice}. Give others: "
                "--tune-seeds 101,102."
            )
        if sweep.protocol == "data_efficient":
            raise ValueError(
                "bench: data_efficient keeps the whole validation split and no shots, so there is no search of options "
                "for it. Leave --tune out, and give the options with --set."
            )
        self._sweep, self._candidates, self._seeds = sweep, candidates, tuple(seeds)
        self._wanted = {_place(spec): spec for spec in sweep.runs() if candidates.get(spec.method)}
        self._trials = [
            (place, number, _trial(spec, options, seed))
            for place, spec in self._wanted.items()
            for number, options in enumerate(candidates[spec.method])
            for seed in self._seeds
        ]
        root = Path(out).expanduser().absolute() / FOLDER / sweep.protocol
        specs = [spec for *_, spec in self._trials]
        tried = {spec.folder_below(root) for spec in specs}
        taught_by = [run for spec in specs if (run := teacher_run(spec, sweep.settled)) is not None]
        teachers = [run for run in taught_by if run.folder_below(root) not in tried]
        self.cells: list[Cell] = place_cells([*teachers, *specs], root, sweep.settled)
        """The runs, to be made before `choices`: teachers with the grid's own options, then the candidates."""

    def choices(self, outcomes: Sequence[Outcome]) -> dict[Any, Choice]:
        """From the outcomes of all `cells`, in their order, none of which failed."""
        outcomes = outcomes[len(outcomes) - len(self._trials) :]
        scores: dict[Any, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
        for (place, number, _), outcome in zip(self._trials, outcomes, strict=True):
            result = read_result(outcome.cell.folder) or {}
            scores[place][number].append(float(result["evaluations"]["val"]["accuracy"]))
        found = {}
        for place, of in scores.items():
            spec = self._wanted[place]
            best = max(of, key=lambda number: fmean(of[number]))
            title = spec.title.rpartition(", seed")[0]
            found[place] = Choice(title, self._candidates[spec.method][best], fmean(of[best]), len(of))
        return found

    def sweep(self, choices: Mapping[Any, Choice]) -> Sweep:
        """The grid with what was chosen, which its runs note among their flags."""
        return replace(self._sweep, settled=_with_choices(self._sweep.settled, choices, self._seeds))


def _with_choices(
    settled: Callable[[RunSpec], RunSpec], choices: Mapping[Any, Choice], seeds: Sequence[int]
) -> Callable[[RunSpec], RunSpec]:
    def tuned(spec: RunSpec) -> RunSpec:
        made, choice = settled(spec), choices.get(_place(spec))
        if choice is None:
            return made
        flag = {
            "options": dict(choice.options),
            "seeds": list(seeds),
            "chosen_on": CHOSEN_ON,
            "accuracy": choice.accuracy,
            "tried": choice.tried,
        }
        return replace(
            made,
            options={**made.options, **choice.options},
            training={**made.training, "flags": {"tuned": flag}},
        )

    return tuned


def _place(spec: RunSpec) -> tuple[Any, ...]:
    """What options are chosen for."""
    return spec.method, replace(spec.data, seed=0), spec.backbone


def _trial(spec: RunSpec, options: Mapping[str, Any], seed: int) -> RunSpec:
    """A candidate's run: of the training classes, scored on their validation images."""
    classes = "base" if spec.protocol == "base2new" else spec.data.classes
    return replace(
        spec,
        protocol="few_shot",
        data=replace(spec.data, seed=seed, classes=classes),
        options={**spec.options, **options},
        asked={"score_on": "val"},
    )
