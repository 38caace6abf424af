"""Captions as people write them, and what exactly each of them says."""

from __future__ import annotations

import json
import random
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cliptune.data.tinyworld.scene import ATTRIBUTES

# What a caption can state. A picture has a value for each fact; a caption states a few of them.
FACTS = (
    "kind", "shape", "colour", "texture", "background", "size", "across", "down", "count", "land", "petals",
    "length", "second", "domain",
)  # fmt: skip
DOMAINS_NAMED = ("photo", "sketch", "night")
_MISSING = -2  # value of a fact that does not apply to a picture: no caption states it


@cache
def words() -> dict[str, Any]:
    """Wordings of every attribute value, frames and sentences."""
    return json.loads(Path(__file__).with_name("words.json").read_text(encoding="utf-8"))


@dataclass(frozen=True)
class Caption:
    """text, and what it states: fact → value."""

    text: str
    states: dict[str, int]


def facts(attributes: dict[str, Tensor], domain: list[str]) -> dict[str, Tensor]:
    """Value of each of `FACTS` per picture, (n,) int64; −2 where it does not apply."""
    a = attributes
    is_object, is_land = a["kind"] == 0, a["kind"] == 2
    single = is_object & (a["count"] == 0)
    sketch = torch.tensor([name == "sketch" for name in domain])
    flower = single & (a["shape"] == ATTRIBUTES["shape"].index("flower"))
    fish = single & (a["shape"] == ATTRIBUTES["shape"].index("fish"))

    def where(applies: Tensor, value: Tensor) -> Tensor:
        return torch.where(applies, value, _MISSING)

    return {
        "kind": a["kind"],
        "shape": where(is_object, a["shape"]),
        "colour": where(~is_land & ~sketch, a["colour"]),
        "texture": where(~is_land, a["texture"]),
        "background": where(is_object & ~sketch, a["background"]),
        "size": where(single, a["size"]),
        "across": where(single, a["place"] % 3),
        "down": where(single, a["place"] // 3),
        "count": where(is_object, a["count"].clamp(max=4)),
        "land": where(is_land, a["land"]),
        "petals": where(flower, a["variant"]),
        "length": where(fish, a["variant"] // 2),
        "second": where(flower & ~sketch, a["second"]),
        "domain": torch.tensor([DOMAINS_NAMED.index(name) if name in DOMAINS_NAMED else _MISSING for name in domain]),
    }


def matches(captions: list[Caption], picture_facts: dict[str, Tensor]) -> Tensor:
    """(captions, n) bool: is all that the caption states true of the picture?"""
    stated = {fact: torch.tensor([c.states.get(fact, -1) for c in captions])[:, None] for fact in FACTS}
    agree = [(stated[fact] == -1) | (stated[fact] == picture_facts[fact]) for fact in FACTS]
    return torch.stack(agree).all(0)


def article(phrase: str) -> str:
    """The phrase with "a" or "an" before it."""
    return with_articles(f"a {phrase}")


def with_articles(text: str) -> str:
    """Every "a" before a vowel becomes "an"."""
    return re.sub(r"\ba (?=[aeiou]|hour)", "an ", text)


class Captioner:
    """Writes a caption that is true of a picture.

    Args:
        never_named: attribute → values that no caption names.
    """

    def __init__(self, never_named: dict[str, tuple[str, ...]] | None = None):
        never = never_named or {}
        self._never = {name: {ATTRIBUTES[name].index(v) for v in values} for name, values in never.items()}

    def write(self, value: dict[str, int], rng: random.Random) -> Caption:
        """`value`: the picture's facts, as numbers (see `facts`)."""
        if value["kind"] == 2:
            return self._land(value, rng)
        if value["kind"] == 1:
            return self._surface(value, rng)
        if value["count"] == 0 and rng.random() < 0.3:
            return self._sentence(value, rng)
        return self._object(value, rng)

    def _named(self, fact: str, value: dict[str, int]) -> bool:
        return value[fact] >= 0 and value[fact] not in self._never.get(fact, ())

    def _frame(self, phrase: str, value: dict[str, int], states: dict[str, int], rng: random.Random) -> Caption:
        domain = "photo"
        if value["domain"] > 0 and rng.random() < 0.7:
            domain = DOMAINS_NAMED[value["domain"]]
            states["domain"] = value["domain"]
        text = rng.choice(words()["frames"][domain]).format(phrase)
        return Caption(text, states)

    def _land(self, value: dict[str, int], rng: random.Random) -> Caption:
        name = ATTRIBUTES["land"][value["land"]]
        frames = words()["frames"]["land" if rng.random() < 0.8 else "photo"]
        phrase = article(rng.choice(words()["land"][name]))
        return Caption(rng.choice(frames).format(phrase), {"kind": 2, "land": value["land"]})

    def _surface(self, value: dict[str, int], rng: random.Random) -> Caption:
        states = {"kind": 1}
        parts = []
        which = rng.random()
        if which < 0.55:
            parts.append(self._word("colour", value, states))
        if which > 0.3:
            parts.append(rng.choice(words()["texture"][self._word("texture", value, states)]))
        parts.append(rng.choice(words()["surfaces"]))
        return self._frame(article(" ".join(parts)), value, states, rng)

    def _word(self, fact: str, value: dict[str, int], states: dict[str, int]) -> str:
        states[fact] = value[fact]
        return ATTRIBUTES[fact][value[fact]]

    def _object(self, value: dict[str, int], rng: random.Random) -> Caption:
        states = {"kind": 0, "count": value["count"]}
        single = value["count"] == 0
        parts = []
        if rng.random() < 0.25 and self._named("size", value):
            parts.append(rng.choice(words()["size"][self._word("size", value, states)]))
        if rng.random() < 0.35 and self._named("colour", value):
            parts.append(self._word("colour", value, states))
        if rng.random() < 0.3 and self._named("texture", value):
            parts.append(rng.choice(words()["texture"][self._word("texture", value, states)]))
        if value["length"] >= 0 and rng.random() < 0.4:
            parts.append(words()["length"][value["length"]])
            states |= {"length": value["length"], "shape": value["shape"]}
        if rng.random() < 0.8 or "length" in states:
            noun = self._word("shape", value, states)
            parts.append(rng.choice(words()["nouns"][noun]) if single else words()["plurals"][noun])
        else:
            parts.append(rng.choice(words()["things"]) + ("" if single else "s"))
        phrase = " ".join(parts)
        phrase = article(phrase) if single else f"{words()['number'][value['count']]} {phrase}"
        if value["petals"] >= 0 and "shape" in states:
            phrase += self._flower_parts(value, states, rng)
        return self._frame(phrase + self._whereabouts(value, states, rng), value, states, rng)

    def _flower_parts(self, value: dict[str, int], states: dict[str, int], rng: random.Random) -> str:
        which = rng.random()
        if which < 0.35:
            states["petals"] = value["petals"]
            return f" with {words()['petals'][value['petals']]} petals"
        if which < 0.65 and value["second"] >= 0:
            return f" with {article(self._word('second', value, states))} centre"
        return ""

    def _whereabouts(self, value: dict[str, int], states: dict[str, int], rng: random.Random) -> str:
        text, which = "", rng.random()
        if which < 0.12 and value["across"] != 1 and value["across"] >= 0:
            states["across"] = value["across"]
            text = f" {words()['across'][value['across']]}"
        elif which < 0.24 and value["down"] != 1 and value["down"] >= 0:
            states["down"] = value["down"]
            text = f" {words()['down'][value['down']]}"
        elif which < 0.3 and value["across"] == 1 and value["down"] == 1:
            states |= {"across": 1, "down": 1}
            text = " in the middle" if rng.random() < 0.5 else " in the centre"
        if rng.random() < 0.25 and self._named("background", value):
            text += f" {rng.choice(words()['background_on'][self._word('background', value, states)])}"
        return text

    def _sentence(self, value: dict[str, int], rng: random.Random) -> Caption:
        """A sentence about one cause alone, in the wording of the descriptions."""
        causes = ["shape", "shape", "colour", "texture", "background", "size", "place"]
        causes += ["petals", "second"] if value["petals"] >= 0 else []
        causes += ["length"] if value["length"] >= 0 else []
        cause = rng.choice(causes)
        states = {"kind": 0, "count": 0}
        if cause == "place":
            fact = rng.choice(["across", "down"])
            if value[fact] == 1:
                fact, states = "across", states | {"across": 1, "down": 1}
                if value["across"] != 1 or value["down"] != 1:
                    return self._object(value, rng)
            states[fact] = value[fact]
            filler = words()[fact][value[fact]]
        elif cause in ("petals", "length"):
            states |= {cause: value[cause]}
            filler = words()[cause][value[cause]]
        elif not self._named(cause, value):
            return self._object(value, rng)
        else:
            name = self._word(cause, value, states)
            filler = phrase_for(cause, name, rng)
        return Caption(with_articles(rng.choice(words()["sentences"][cause]).format(filler)), states)


def phrase_for(cause: str, name: str, rng: random.Random) -> str:
    """What goes into a sentence about this cause for an attribute's value of this name."""
    table = words()
    if cause == "shape":
        return rng.choice(table["nouns"][name])
    if cause == "texture":
        return table["texture_with"][name]
    if cause == "background":
        return rng.choice(table["background_on"][name])
    if cause == "size":
        return rng.choice(table["size"][name])
    return name
