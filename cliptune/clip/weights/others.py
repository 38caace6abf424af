"""Weights that open_clip 3.3.0 lists for architectures with other towers than CLIP's own: sizes, ports, where they lie.

`tools/list_backbones.py` writes both tables. They are for telling: what a model is when it is loaded, the installed
open_clip and the files beside the weights decide.
"""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from cliptune.preprocessing import Preprocessing

ARCHITECTURES = Path(__file__).with_name("other_architectures.csv")
WEIGHTS = Path(__file__).with_name("other_weights.csv")


@dataclass(frozen=True)
class OtherArchitecture:
    """One architecture.

    Args:
        name: as open_clip spells it.
        image_tower: class and library, such as "Eva of timm".
        image_open, text_open: whether tokens, biases and deltas enter it.
        resolution: R in pixels. width: of the image tower. layers: its blocks, 0 of a closed one. embed: D.
        context: tokens of a text.
        parameters: of both towers; None where a text tower of transformers has its sizes on the hub.
    """

    name: str
    image_tower: str
    image_open: bool
    text_open: bool
    resolution: int
    width: int
    layers: int
    embed: int
    context: int
    parameters: int | None


@dataclass(frozen=True)
class OtherWeights:
    """One (architecture, tag).

    Args:
        repository: organisation/name on the hub, or an address. pictures: how they are prepared.
    """

    architecture: OtherArchitecture
    tag: str
    repository: str
    pictures: Preprocessing

    @property
    def name(self) -> str:
        return f"{self.architecture.name}:{self.tag}"


@cache
def other_architectures() -> dict[str, OtherArchitecture]:
    """By name."""
    return {line["architecture"]: _architecture(line) for line in _lines(ARCHITECTURES)}


@cache
def other_weights() -> tuple[OtherWeights, ...]:
    """All of them, in open_clip's order."""
    known = other_architectures()
    return tuple(
        OtherWeights(known[line["architecture"]], line["tag"], line["repository"], _pictures(line))
        for line in _lines(WEIGHTS)
    )


def _lines(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _architecture(line: dict[str, str]) -> OtherArchitecture:
    sizes = {name: int(line[name]) for name in ("resolution", "width", "layers", "embed", "context")}
    return OtherArchitecture(
        name=line["architecture"],
        image_tower=line["image_tower"],
        image_open=line["image_open"] == "yes",
        text_open=line["text_open"] == "yes",
        parameters=int(line["parameters"]) if line["parameters"] else None,
        **sizes,
    )


def _pictures(line: dict[str, str]) -> Preprocessing:
    stated: dict[str, Any] = {"resize": line["resize"], "interpolation": line["interpolation"]}
    stated |= {name: tuple(json.loads(line[name])) for name in ("mean", "std") if line[name]}
    return Preprocessing.from_dict(stated)
