"""Many runs at once: methods × data × shots × backbones × seeds, each in a folder of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Any

from cliptune.data.spec import DataSpec
from cliptune.protocols.data_efficiency import check_request
from cliptune.runs.spec import RunSpec
from cliptune.sweep.cells import Cell
from cliptune.sweep.sharing import place_cells


def _as_it_is(spec: RunSpec) -> RunSpec:
    return spec


def _nothing_more(data: DataSpec) -> Sequence[Mapping[str, Any]]:
    return ({},)


@dataclass(frozen=True)
class Sweep:
    """A grid of runs.

    Args:
        protocol: one of `PROTOCOLS`.
        methods: hosts with add-ons.
        data: data sets, whole.
        shots: training images per class; None for all.
        seeds: of the runs.
        backbones: what `load_clip` takes.
        loading: further arguments of `load_clip`, for all backbones.
        settled: gives a run its options and training, asked for every run, and for teachers.
        asked: data set → what else each of its runs asks of the protocol: `{"targets": …}` for "cross" and "domains",
            `{"fraction": …, "selection": …}` for "data_efficient".
    Raises: ValueError for an unknown protocol, an empty side of the grid, or a request that cannot be.
    """

    protocol: str
    methods: Sequence[str]
    data: Sequence[DataSpec]
    shots: Sequence[int | None] = (16,)
    seeds: Sequence[int] = (1, 2, 3)
    backbones: Sequence[str] = ("mini",)
    loading: Mapping[str, Any] = field(default_factory=dict)
    settled: Callable[[RunSpec], RunSpec] = _as_it_is
    asked: Callable[[DataSpec], Sequence[Mapping[str, Any]]] = _nothing_more

    def __post_init__(self) -> None:
        for side in ("methods", "data", "shots", "seeds", "backbones"):
            if not getattr(self, side):
                raise ValueError(f"bench: there are no {side}, so there is nothing to run. Give at least one.")

    def runs(self) -> list[RunSpec]:
        """All of them, data set by data set, so that each is opened once."""
        wanted = [(data, more) for data in self.data for more in self.asked(data)]
        for _, more in wanted:
            self._check(more)
        made = []
        for (data, more), shots, backbone, method, seed in product(
            wanted, self.shots, self.backbones, self.methods, self.seeds
        ):
            part = replace(data, shots=shots, seed=seed)
            spec = RunSpec(method, part, self.protocol, backbone, dict(self.loading), asked=dict(more))
            made.append(self.settled(spec))
        return made

    def cells(self, out: str | Path) -> list[Cell]:
        """The runs below a folder; those that stand on another are told where it lies, see `place_cells`."""
        return place_cells(self.runs(), Path(out).expanduser().absolute(), self.settled)

    def _check(self, more: Mapping[str, Any]) -> None:
        if not more.get("targets", True):
            raise ValueError(
                f"bench: there are no targets for {self.protocol}. Give at least one data set: --targets NAME."
            )
        if "fraction" in more:
            check_request(more["fraction"], more["selection"], more.get("selector_epochs", 0))
