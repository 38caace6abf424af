"""What there is to say of each method, with its learnables counted by building it."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cache
from typing import Any, Literal, get_args, get_origin, get_type_hints

from cliptune.adapter import Adapter
from cliptune.clip.model import CLIP
from cliptune.clip.tokenizer import default_tokenizer
from cliptune.clip.weights.openai import OPENAI_CONFIGS
from cliptune.registry.building import add_ons, build, describe, find, installed_names, names
from cliptune.registry.recipes import Entry, recipes_of

COUNTED_AT = "ViT-B/16"


@dataclass(frozen=True)
class MethodListing:
    """A row of the listing.

    Args:
        name, summary, paper, enters: as in `MethodInfo`.
        learnables: values learned at the sizes of ViT-B/16 with the default options, beside those per class; None for
            an add-on, whose number depends on its host.
        per_class: values learned for each class.
        options: name, type, default and meaning of each option.
        recipes: protocol → entries of its published settings.
    """

    name: str
    summary: str
    paper: str
    enters: str
    learnables: int | None
    per_class: int
    options: tuple[dict[str, Any], ...]
    recipes: Mapping[str, tuple[Entry, ...]]


def list_methods() -> list[MethodListing]:
    """All methods by name, then all add-ons, then what installed distributions bring.

    Warns of installed methods that are broken, and leaves them out.
    """
    listed = [list_method(name) for name in (*names(), *add_ons())]
    try:
        others = installed_names()
    except ValueError as error:
        warnings.warn(str(error), stacklevel=2)
        others = ()
    for name in others:
        try:
            listed.append(list_method(name))
        except ValueError as error:
            warnings.warn(f"{error} It is left out.", stacklevel=2)
    return listed


def list_method(name: str) -> MethodListing:
    """One method or add-on. Raises: ValueError naming the nearest for an unknown one."""
    info, module = describe(name), find(name)
    known = [field.name for field in fields(module.Config)]
    meanings: dict[str, str] = {}
    for config in reversed(module.Config.__mro__):  # options may be those of another method, and explained there
        meanings |= _meanings(config.__doc__ or "", known)
    kinds = get_type_hints(module.Config)
    options = tuple(
        {"name": key, "type": _spelled(kinds[key], kind), "default": default, "meaning": meanings.get(key, "")}
        for key, (kind, default) in info.options.items()
    )
    learnables, per_class = (None, 0) if info.wrapper else _counts(name)
    return MethodListing(
        info.name, info.summary, info.paper, info.enters, learnables, per_class, options, recipes_of(name)
    )


def count_learnables(adapter: Adapter) -> int:
    """Values that an adapter learns: parameters moved by gradient, and what a head fits or counts without one."""
    kept = adapter.head.state_dict()  # without what a head only counts between two estimates
    fitted = [b for name, b in adapter.head.named_buffers() if name in kept and b.is_floating_point()]
    return sum(p.numel() for p in adapter.trainable().values()) + sum(b.numel() for b in fitted)


@cache
def takes_steps(method: str) -> bool:
    """Whether a method, with its default options, is trained by optimiser steps; else its head is solved for, or it
    learns nothing.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # these classes have no descriptions, and need none
        recipe = build(method, _sizes(), _classes(2))
    return any(stage.optimiser is not None for stage in recipe.stages)


def _counts(method: str) -> tuple[int, int]:
    """Values learned whatever the classes, and for each class."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # these classes have no descriptions, and need none
        two, three = (count_learnables(build(method, _sizes(), _classes(n)).adapter) for n in (2, 3))
    return two - 2 * (three - two), three - two


def _classes(n: int) -> list[str]:
    return ["cat", "dog", "bird"][:n]


@cache
def _sizes() -> CLIP:
    return CLIP.of_sizes(OPENAI_CONFIGS[COUNTED_AT], default_tokenizer(), COUNTED_AT)


def _spelled(kind: Any, written: str) -> str:
    """The choices of a Literal, which may be written under another name; any other type as it is written."""
    return " | ".join(map(str, get_args(kind))) if get_origin(kind) is Literal else written


def _meanings(doc: str, known: Sequence[str]) -> dict[str, str]:
    """Option → its words in the "Args" of a docstring, where several may share an entry ("lr, epochs: …")."""
    if not known:
        return {}
    text = " ".join(doc.partition("Args:")[2].partition("Raises:")[0].split())
    name = "|".join(map(re.escape, known))
    entries = list(re.finditer(rf"(?<!\S)((?:{name})(?:, (?:{name}))*): ", text))
    ends = [entry.start() for entry in entries[1:]] + [len(text)] * bool(entries)
    return {
        option: text[entry.end() : end].strip()
        for entry, end in zip(entries, ends, strict=True)
        for option in entry[1].split(", ")
    }
