"""What is known about the field's data sets: names, folders, templates, counts and where to get them.

Source: the layout and split files of CoOp (arXiv:2109.01134), on which all prompt-tuning papers build; counts from the
    split files, for Food101, SUN397 and ImageNet's variants from PromptKD (arXiv:2403.02781, Tab. 8).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Place:
    """Folder of a data set below the root, and of its pictures below that ("." for the same)."""

    folder: str
    images: str


@dataclass(frozen=True)
class Source:
    """What to fetch, where from, and where it goes below the data set's folder; why one can do without it."""

    what: str
    origin: str
    target: str
    optional: str | None = None


@dataclass(frozen=True)
class Facts:
    """One data set.

    Args:
        name: as asked for; `title` as tables print it; `aliases` are further names (see `spellings`).
        layout: how it is read: "split" (a split file), "aircraft", "imagenet" or "imagenet_shift".
        places: where it may lie, the usual place first.
        template: the field's hand-written text; `other_templates` by who uses them; `ensemble` for zero-shot.
        classes: number of classes C.
        counts: split → number of pictures; empty where it is not known for certain.
        base_new_test: test pictures of the base and of the new classes.
        first_new_class: name of class ⌈C/2⌉.
        split_file: its name, where it is published, and SHA-256 of a known copy.
        fallback: which official lists a split of one's own can be made from.
        ignored, renamed: class folders that do not count, and class names said in other words.
        needs: files and folders without which nothing can be read, besides the split file.
    """

    name: str
    title: str
    layout: str
    places: tuple[Place, ...]
    template: str
    classes: int
    sources: tuple[Source, ...]
    aliases: tuple[str, ...] = ()
    other_templates: Mapping[str, str] = field(default_factory=dict)
    ensemble: tuple[str, ...] = ()
    counts: Mapping[str, int] = field(default_factory=dict)
    smallest_train_class: int | None = None
    base_new_test: tuple[int, ...] = ()
    first_new_class: str | None = None
    split_file: str | None = None
    split_from: str | None = None
    split_sha256: str | None = None
    fallback: str | None = None
    ignored: tuple[str, ...] = ()
    renamed: Mapping[str, str] = field(default_factory=dict)
    needs: tuple[str, ...] = ()

    @property
    def summary(self) -> str:
        """One line for a listing."""
        return f"{self.title}: {self.classes} classes, in the folder {self.places[0].folder}/"

    @property
    def spellings(self) -> tuple[str, ...]:
        """Every lower-case way to write its name: aliases and title, with "_", "-" or nothing between the words."""
        written = [name.lower().replace("-", "_") for name in (self.name, self.title, *self.aliases)]
        return tuple(dict.fromkeys(name.replace("_", joint) for name in written for joint in ("_", "-", "")))


@dataclass(frozen=True)
class Group:
    """Data sets that belong together in a table."""

    name: str
    summary: str
    members: tuple[str, ...]


@cache
def published() -> dict[str, Facts]:
    """Name → facts of every published data set that can be read."""
    return {name: _facts(name, row) for name, row in _content()["datasets"].items()}


@cache
def groups_of_data() -> dict[str, Group]:
    """Name → group: "all11" and others."""
    return {name: Group(name, row["summary"], tuple(row["members"])) for name, row in _content()["groups"].items()}


def facts(name: str) -> Facts:
    """The facts of a data set by any spelling of its name. Raises: ValueError if there is none of that name."""
    wanted = name.strip().lower()
    found = next((facts for facts in published().values() if wanted in facts.spellings), None)
    if found is None:
        raise ValueError(f"Data {name!r} is no published data set. Known are {', '.join(published())}.")
    return found


def _content() -> dict[str, dict[str, dict[str, Any]]]:
    return json.loads(Path(__file__).with_name("facts.json").read_text(encoding="utf-8"))


def _facts(name: str, row: dict[str, Any]) -> Facts:
    plain: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value
        for key, value in row.items()
        if key not in ("places", "sources")
    }
    return Facts(
        name=name,
        places=tuple(Place(**place) for place in row["places"]),
        sources=tuple(
            Source(source["what"], source["from"], source["to"], source.get("optional")) for source in row["sources"]
        ),
        **plain,
    )
