"""One run of a grid, and all that it is made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cliptune.methods.plugins import label

PROTOCOLS = ("base2new", "few_shot", "cross", "domains", "data_efficient")


@dataclass(frozen=True)
class Cell:
    """One run of a grid.

    Args:
        protocol: one of `PROTOCOLS`.
        method: a host with add-ons.
        source: arguments of `load_data` that open the whole data set.
        shots: training images per class; None for all.
        seed: of sampling, start, order and augmentation.
        backbone: what `load_clip` takes.
        folder: of the run.
        options: of the method.
        training: further arguments of `fit`.
        asked: further arguments of the protocol; "targets" as arguments of `load_data`.
        continues: folder of the host's run whose end stands for the first stages; None trains them.
        loading: further arguments of `load_clip`, where the weights do not tell everything.
        after: folders of the runs that have to be there first.
    """

    protocol: str
    method: str
    source: Mapping[str, Any]
    shots: int | None
    seed: int
    backbone: str
    folder: Path
    options: Mapping[str, Any] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)
    asked: Mapping[str, Any] = field(default_factory=dict)
    continues: Path | None = None
    after: tuple[Path, ...] = ()
    loading: Mapping[str, str] = field(default_factory=dict)

    @property
    def title(self) -> str:
        picked = "all images" if self.shots is None else f"{self.shots} shot{'s' if self.shots != 1 else ''}"
        if "fraction" in self.asked:
            picked = f"{self.asked['fraction']:.0%} by {self.asked['selection']}"
        others = len(self.asked.get("targets", ()))
        to = f" to {others} target{'s' if others != 1 else ''}" if others else ""
        return f"{label(self.method)} on {self.source['name']}{to}, {picked}, seed {self.seed}"
