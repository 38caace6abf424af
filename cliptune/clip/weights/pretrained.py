"""Weights that open_clip 3.3.0 lists for architectures like OpenAI's: where they lie, and what no tensor tells.

Facts are in `pretrained.csv`, one line per (architecture, tag): repository on the hub, activation, resizing, its
statistics, and the first 8 digits of the SHA-256 of the file that was first published, where its address holds them.
"""

from __future__ import annotations

import csv
import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from cliptune.preprocessing import MEAN, STD, Statistics

_TABLE = Path(__file__).with_name("pretrained.csv")
_STATISTICS: dict[str, tuple[Statistics, Statistics]] = {"openai": (MEAN, STD), "half": ((0.5,) * 3, (0.5,) * 3)}
EVIDENCE = "entry in open_clip's list of weights"


@dataclass(frozen=True)
class Listed:
    """One line of the list.

    Args:
        architecture, tag: as open_clip spells them.
        repository: organisation/name on the hub.
        activation: that the weights were trained with, whatever the architecture's name says.
        pictures: fields of `Preprocessing`.
        prefix: first digits of a SHA-256, or "".
    """

    architecture: str
    tag: str
    repository: str
    activation: str
    pictures: Mapping[str, Any]
    prefix: str

    @property
    def name(self) -> str:
        return f"{self.architecture}:{self.tag}"


@cache
def listed_weights() -> tuple[Listed, ...]:
    with _TABLE.open(encoding="utf-8", newline="") as file:
        return tuple(_line(line) for line in csv.DictReader(file))


def _line(line: Mapping[str, str]) -> Listed:
    mean, std = _STATISTICS[line["statistics"]]
    pictures = {"resize": line["resize"], "interpolation": line["interpolation"], "mean": mean, "std": std}
    return Listed(
        line["architecture"], line["tag"], line["repository"], line["activation"], pictures, line["sha256_prefix"]
    )


def named_weights(architecture: str, tag: str) -> Listed | None:
    """The line of an architecture (in any case, "/" or "-") and a tag; None if it has none of that tag.

    "ViT-B-16" and "ViT-B-16-quickgelu" are one architecture here: a tag has one activation, which is listed.
    """
    base = _base(architecture)
    found = [line for line in listed_weights() if _base(line.architecture) == base and line.tag == tag]
    exact = [line for line in found if line.architecture.lower() == architecture.lower()]
    return next(iter(exact or found), None)


def hashed_weights(sha256: str) -> Listed | None:
    """The line whose first published file has this SHA-256, by its first 8 digits; None if there is none."""
    return next((line for line in listed_weights() if line.prefix and sha256.startswith(line.prefix)), None)


def tags_of(architecture: str) -> list[str]:
    """Tags of an architecture, nothing if it is not in the list."""
    base = _base(architecture)
    return list(dict.fromkeys(line.tag for line in listed_weights() if _base(line.architecture) == base))


def which_tag(architecture: str, tag: str | None = None) -> str:
    """A sentence on the tags that an architecture of the list has, with those that are near."""
    tags = tags_of(architecture)
    near = difflib.get_close_matches(tag or "", tags, n=3, cutoff=0.5)
    told = near or tags[:8]
    more = f" and {len(tags) - len(told)} more (`cliptune backbones`)" if len(tags) > len(told) else ""
    return f"Of {architecture}, open_clip lists {', '.join(told)}{more}. "


def _base(architecture: str) -> str:
    return architecture.lower().replace("/", "-").replace("@", "-").removesuffix("-quickgelu").removesuffix("px")
