"""Published settings that do not work on narrow towers: what was seen to work there, from each method's data file.

The `[narrow]` part of `rlp.toml` speaks of options of `rlp.py`, and under `steps` of the optimiser steps of a host. No
default changes: a recipe that is built on a narrow tower notes and flags the values that were not seen to work.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from cliptune.clip.model import CLIP
from cliptune.reading import shown
from cliptune.recipe import FewestSteps, Narrow, Recipe
from cliptune.registry.plugins import label

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

NARROW = 256
"""Text towers of published CLIPs are at least so wide; mini's is half of it."""
STEPS = "steps"


@dataclass(frozen=True)
class Limit:
    """What was seen of one setting on towers narrower than `NARROW`.

    Args:
        option: of the method, or "steps" for the optimiser steps of its stages.
        works: a value that was seen to work.
        seen: what was seen at both, on which data and seeds, as the end of a sentence.
        least, most: values from which, and up to which, it was seen to work; None for no such bound.
    """

    option: str
    works: float
    seen: str
    least: float | None = None
    most: float | None = None

    def allows(self, value: float) -> bool:
        """Whether the value lies within what was seen to work."""
        return (self.least is None or value >= self.least) and (self.most is None or value <= self.most)


@cache
def limits_of(module: ModuleType) -> tuple[Limit, ...]:
    """The limits in the data file of a method or add-on, given by its module; none if it has no file.

    Raises: ValueError for a file with unknown options or keys.
    """
    path = Path(str(module.__file__)).with_suffix(".toml")
    return read_limits(path.read_text(encoding="utf-8"), module, path.name) if path.is_file() else ()


def read_limits(text: str, module: ModuleType, where: str) -> tuple[Limit, ...]:
    """The limits in the text of a data file, called `where`. Args and errors as of `limits_of`."""
    try:
        entries = tomllib.loads(text).get("narrow", {})
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{where}: expected TOML, but {shown(str(error), 200)}. Correct the file.") from error
    if not isinstance(entries, dict) or not all(isinstance(entry, dict) for entry in entries.values()):
        raise ValueError(f"{where}: expected [narrow.OPTION], a table for each option, got {shown(repr(entries))}.")
    if unknown := sorted(entries.keys() - {STEPS, *(f.name for f in fields(module.Config))}):
        raise ValueError(f"{where}: [narrow] speaks of {shown(unknown[0])!r}, which is no option of this method.")
    return tuple(_limit(option, entry, where) for option, entry in entries.items())


def _limit(option: str, entry: Mapping[str, Any], where: str) -> Limit:
    numbers: dict[str, Any] = {key: entry.get(key) for key in ("works", "least", "most") if entry.get(key) is not None}
    numeric = all(type(value) in (int, float) for value in numbers.values())
    if entry.keys() - {"works", "least", "most", "seen"} or not numeric or len(numbers) < 2 or "works" not in numbers:
        raise ValueError(
            f"{where}: [narrow.{option}] must give numbers for works and for least, most or both, and the words of "
            f"seen, got {shown(repr(entry))}."
        )
    if not isinstance(entry.get("seen"), str):
        raise ValueError(f"{where}: [narrow.{option}] must say in words what was seen, got {shown(repr(entry))}.")
    return Limit(option, seen=entry["seen"], **numbers)


def mark_narrow(recipe: Recipe, parts: Mapping[str, ModuleType], clip: CLIP) -> None:
    """Enter into a recipe, in place, what was not seen to work on so narrow a text tower; wide ones are left alone.

    Args:
        recipe: built, with its resolved options.
        parts: name → module of the method and the add-ons that it is built from.
    """
    width = clip.text.width
    if width >= NARROW:
        return
    for part, module in parts.items():
        for limit in limits_of(module):
            used = recipe.config.get(limit.option)
            here = f"the text tower is {width} wide, not 512 or more like those of real CLIPs, and {limit.seen}"
            if limit.option == STEPS:
                note = f"{label(part)}: {{steps}} optimiser steps may be too few: {here}. Try --steps {limit.works:g}."
                recipe.fewest_steps = FewestSteps(int(limit.least or 0), int(limit.works), width, note)
            elif isinstance(used, (int, float)) and not limit.allows(used):
                note = (
                    f"{label(part)}: {limit.option}={used:g} may not work: {here}. Try {limit.option}={limit.works:g}."
                )
                recipe.narrow += (Narrow(limit.option, used, limit.works, width, note),)
