"""Task suites of Tinyworld, in the likeness of the data sets that the field uses."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from cliptune.data.items import Dataset, Item, Split
from cliptune.data.tinyworld.descriptions import describe
from cliptune.data.tinyworld.domains import DOMAINS, shift
from cliptune.data.tinyworld.draws import Draws
from cliptune.data.tinyworld.render import render
from cliptune.data.tinyworld.scene import Chooser, compose

_BLOCK = 32  # neighbouring pictures drawn together when one is asked for


@dataclass(frozen=True)
class Suite(Dataset):
    """A data set whose truth is known.

    descriptions: cause → class name → sentences; what a class leaves open is guessed, as a language model would.
    domain: "photo", or the domain that all pictures were asked for in; suites may have others of their own.
    """

    descriptions: Mapping[str, Mapping[str, tuple[str, ...]]] = field(default_factory=dict)
    domain: str = "photo"


class DrawnSource:
    """Pictures that are drawn when they are asked for, each from its own key; drawn ones are kept as bytes.

    Args:
        keys: one text per picture, all that its random numbers depend on.
        labels: (N,) int64.
        chooser: attributes per class.
        domains: of the pictures; where there are several, each picture's own is drawn.
    """

    in_memory = False  # an item's path tells its content, which need not be hashed

    def __init__(self, keys: Sequence[str], labels: Tensor, chooser: Chooser, domains: Sequence[str]):
        self.keys, self.labels, self.domains = tuple(keys), labels, tuple(domains)
        self._chooser = chooser
        self._images = torch.empty(len(self.keys), 3, 64, 64, dtype=torch.uint8)
        self._masks = torch.empty(len(self.keys), 64, 64, dtype=torch.bool)
        self._drawn = torch.zeros(len(self.keys), dtype=torch.bool)

    def __getstate__(self) -> dict[str, Any]:
        return {"keys": self.keys, "labels": self.labels, "chooser": self._chooser, "domains": self.domains}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]

    def images(self, rows: Sequence[int] | Tensor) -> Tensor:
        """(n, 3, 64, 64) uint8."""
        return self._images[self._draw(rows)]

    def masks(self, rows: Sequence[int] | Tensor) -> Tensor:
        """(n, 64, 64) bool: pixels of which an object covers at least half."""
        return self._masks[self._draw(rows)]

    def attributes(self, rows: Sequence[int] | Tensor) -> dict[str, Tensor]:
        """name → (n,) int64: what is in the pictures."""
        rows = torch.as_tensor(rows)
        return self._chooser.attributes(self.labels[rows], Draws([self.keys[i] for i in rows.tolist()]))

    def image(self, row: int) -> Image.Image:
        return Image.fromarray(self.images([row])[0].permute(1, 2, 0).contiguous().numpy())

    def digest(self, row: int) -> str:
        return hashlib.sha256(self.images([row]).numpy().tobytes()).hexdigest()

    def _draw(self, rows: Sequence[int] | Tensor) -> Tensor:
        rows = torch.as_tensor(rows, dtype=torch.int64)
        for block in (rows[~self._drawn[rows]] // _BLOCK).unique().tolist():
            part = torch.arange(block * _BLOCK, min((block + 1) * _BLOCK, len(self.keys)))
            draws = Draws([self.keys[i] for i in part.tolist()])
            images, coverage = render(compose(self._chooser.attributes(self.labels[part], draws), draws))
            self._images[part] = (self._shifted(images, part, draws) * 255).round().to(torch.uint8)
            self._masks[part] = coverage >= 0.5
            self._drawn[part] = True
        return rows

    def _shifted(self, images: Tensor, part: Tensor, draws: Draws) -> Tensor:
        if len(self.domains) == 1:
            return shift(images, self.domains[0], draws)
        keys = [f"{self.keys[i]}/domain" for i in part.tolist()]
        own = Draws(keys).choose(len(self.domains))
        shifted = torch.empty_like(images)
        for number, domain in enumerate(self.domains):
            rows = (own == number).nonzero().squeeze(1)
            if len(rows):
                shifted[rows] = shift(images[rows], domain, Draws([keys[i] for i in rows.tolist()]))
        return shifted


@cache
def _table() -> dict[str, Any]:
    return json.loads(Path(__file__).with_name("suites.json").read_text(encoding="utf-8"))


def suites() -> tuple[str, ...]:
    """Names of the suites."""
    return tuple(_table())


def list_suites() -> dict[str, str]:
    """Name → what it shows, in one line."""
    return {name: entry["about"] for name, entry in _table().items()}


def classes_of(name: str) -> dict[str, dict[str, list[str]]]:
    """Class name → attribute → values that it may take; what is left out may be anything."""
    entry = _entry(name)
    if "grid" in entry:
        names, values = list(entry["grid"]), entry["grid"].values()
        own = {" ".join(row): {n: [v] for n, v in zip(names, row, strict=True)} for row in itertools.product(*values)}
    else:
        own = entry["classes"]
    return {class_name: {**entry["all"], **allowed} for class_name, allowed in own.items()}


def _shortcut(name: str, classes: Mapping[str, Mapping[str, list[str]]]) -> dict[str, dict[str, list[str]]]:
    """The classes as they are shown in training: where a suite misleads, one attribute mostly tells the class there."""
    shortcut = _entry(name).get("shortcut")
    if shortcut is None:
        return {class_name: dict(allowed) for class_name, allowed in classes.items()}
    attribute, times = shortcut["attribute"], shortcut["times"]
    shown = {}
    for i, (class_name, allowed) in enumerate(classes.items()):
        values = shortcut["values"]
        own = values[i % len(values)]
        # as often as `times` others together, so that the rest is drawn evenly
        shown[class_name] = {**allowed, attribute: [*values, *[own] * (times * len(values))]}
    return shown


def load_suite(
    name: str,
    root: Path | str | None = None,
    *,
    seed: int = 0,
    domain: str | None = None,
    train: int = 100,
    val: int = 50,
    test: int = 50,
    template: str | None = None,
) -> Suite:
    """A suite by name ("objects" or "tinyworld/objects"), or its pictures in another domain ("objects-sketch").

    Args:
        root: not used: nothing is read.
        seed: of the pictures. Picture i of a split is the same whatever else is drawn and however large the pool is.
        domain: one of `DOMAINS`, for all splits; the one in the name, or the suite's own, if left out.
        train, val, test: pictures per class; of suites with a long tail the largest class has so many in `train`.
        template: instead of the suite's own.
    Raises: ValueError for an unknown suite or domain, or fewer than 0 pictures.
    """
    name, _, named_domain = name.removeprefix("tinyworld/").partition("-")
    entry, classes = _entry(name), classes_of(name)
    if named_domain and domain not in (None, named_domain):
        raise ValueError(f"Tinyworld: {name}-{named_domain} is asked for in the domain {domain!r}. Say it once.")
    domain = domain or named_domain or None
    if domain is not None and domain not in DOMAINS:
        raise ValueError(f"Tinyworld: unknown domain {domain!r}. Choose one of: {', '.join(DOMAINS)}.")
    if min(train, val, test) < 0:
        raise ValueError(
            f"Tinyworld: train, val and test are pictures per class, at least 0, got {train}, {val} and {test}."
        )
    names = tuple(classes)
    choosers = {part: Chooser(list(classes.values())) for part in ("train", "val", "test")}
    if "shortcut" in entry:
        choosers["train"] = choosers["val"] = Chooser(list(_shortcut(name, classes).values()))
    full = f"tinyworld/{name}" + (f"-{domain}" if domain not in (None, "photo") else "")
    full += f"-seed{seed}" if seed else ""

    def split(part: str, per_class: int) -> Split:
        most = [per_class] * len(names)
        if part == "train" and "tail" in entry:
            steps = len(names) - 1
            most = [
                max(1, round(per_class * entry["tail"] ** (c / steps))) if per_class else 0 for c in range(steps + 1)
            ]
        # Picture i shows class i mod C; the places that a rare class has too many are left out.
        places = [i for i in range(per_class * len(names)) if i // len(names) < most[i % len(names)]]
        labels = torch.tensor([i % len(names) for i in places], dtype=torch.int64)
        # the domain is left out: a scene is the same in every domain
        keys = [f"{seed}/{name}/{part}/{i}" for i in places]
        items = [Item(f"{full}/{part}/{i:06d}", i % len(names), names[i % len(names)]) for i in places]
        shown = (domain,) if domain is not None else tuple(entry.get("domains", {}).get(part, ("photo",)))
        return Split(items, DrawnSource(keys, labels, choosers[part], shown))

    return Suite(
        name=full,
        class_names=names,
        train=split("train", train),
        val=split("val", val),
        test=split("test", test),
        template=template or entry["template"],
        descriptions=describe(classes, entry["causes"]),
        domain=domain or "photo",
    )


def images_of(split: Split, indices: Sequence[int] | Tensor) -> Tensor:
    """Pictures of a Tinyworld split, also after sampling and class cuts: (n, 3, 64, 64) float32 in [0, 1]."""
    return _source(split).images([split.rows[i] for i in torch.as_tensor(indices).tolist()]).float() / 255


def masks_of(split: Split, indices: Sequence[int] | Tensor) -> Tensor:
    """Exact foreground masks of a Tinyworld split: (n, 64, 64) bool."""
    return _source(split).masks([split.rows[i] for i in torch.as_tensor(indices).tolist()])


def _source(split: Split) -> DrawnSource:
    if not isinstance(split.source, DrawnSource):
        raise ValueError(
            f"Tinyworld: exact masks are known only for pictures that are drawn here, but this split comes from "
            f"{type(split.source).__name__}. Load it with load_suite or load_data('tinyworld/...')."
        )
    return split.source


def _entry(name: str) -> dict[str, Any]:
    if name not in _table():
        raise ValueError(f"Tinyworld has no suite {name!r}. It has: {', '.join(suites())}.")
    return _table()[name]
