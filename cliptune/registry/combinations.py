"""Which add-ons work on which hosts, as their constructors say."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from cliptune.clip.model import CLIP, CLIPConfig
from cliptune.clip.tokenizer import default_tokenizer
from cliptune.registry.building import add_ons, build, find, names
from cliptune.registry.plugins import is_add_on

# Small, and with different sizes everywhere; only shapes matter.
SIZES = CLIPConfig(
    embed=16,
    resolution=32,
    image_width=40,
    image_layers=3,
    patch=8,
    context=77,
    vocab=49408,
    text_width=24,
    text_layers=3,
    head_width=8,
)
CLASSES = tuple(f"class {i}" for i in range(10))


@dataclass(frozen=True)
class Cell:
    """One entry of the table.

    Args:
        host: a method. add_ons: joined to it, in the order in which they act; () for the host alone.
        accepted: can it be built?
        note: why not, as a sentence; or the restrictions it works under, "" for none.
    """

    host: str
    add_ons: tuple[str, ...]
    accepted: bool
    note: str

    @property
    def method(self) -> str:
        """The name to build with."""
        return "+".join((self.host, *self.add_ons))

    @property
    def mark(self) -> str:
        """✓ works, (✓) works under the restrictions of the note, ✗ does not."""
        return ("(✓)" if self.note else "✓") if self.accepted else "✗"


def compatibility(
    together: int = 1,
    options: Mapping[str, Mapping[str, Any]] | None = None,
    clip: CLIP | None = None,
    others: Sequence[str] = (),
    hosts: Sequence[str] | None = None,
    least: int = 0,
) -> list[Cell]:
    """Every host with every choice of `least` to `together` add-ons, host by host.

    Args:
        together: most add-ons joined at once, ≥ 0. least: fewest.
        options: host → options that it cannot be built without.
        clip: backbone to ask about; None for a small ViT.
        others: methods and add-ons from outside the package, by path or entry point, beside those of the package.
        hosts: methods to ask about; None for all.
    """
    clip = CLIP.of_sizes(SIZES, default_tokenizer(), "a small ViT") if clip is None else clip
    outside = {other: is_add_on(find(other)) for other in others}
    known = (*add_ons(), *(other for other, joins in outside.items() if joins))
    asked = (*names(), *(other for other, joins in outside.items() if not joins)) if hosts is None else hosts
    chosen = [some for count in range(least, together + 1) for some in combinations(known, count)]
    return [_cell(clip, host, some, (options or {}).get(host, {})) for host in asked for some in chosen]


def _cell(clip: CLIP, host: str, joined: tuple[str, ...], options: Mapping[str, Any]) -> Cell:
    try:
        with warnings.catch_warnings():
            # The made-up classes have no descriptions; what stands in for them does not matter here.
            warnings.simplefilter("ignore")
            recipe = build("+".join((host, *joined)), clip, CLASSES, **options)
    except ValueError as error:
        return Cell(host, joined, False, str(error))
    return Cell(host, tuple(recipe.method.split("+")[1:]), True, "; ".join(recipe.remarks))
