"""Descriptions of classes, one list of sentences per cause, as a language model would be asked for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product

from cliptune.data.tinyworld.captions import with_articles, words
from cliptune.data.tinyworld.scene import ATTRIBUTES

_SENTENCES = 10  # at most, per cause and class
_GUESSES = 3  # values that are mentioned for a cause which the class leaves open
_ATTRIBUTE = {"petals": "variant", "length": "variant"}  # causes that go by another name than their attribute
_PLACES = {
    "top left": "at the top left", "top": "at the top", "top right": "at the top right", "left": "on the left",
    "centre": "in the middle", "right": "on the right", "bottom left": "at the bottom left", "bottom": "at the bottom",
    "bottom right": "at the bottom right",
}  # fmt: skip


def describe(
    classes: Mapping[str, Mapping[str, Sequence[str]]], causes: Sequence[str]
) -> dict[str, dict[str, tuple[str, ...]]]:
    """Sentences about each class for each cause.

    A cause that a class fixes is described by its value. One that the class leaves open is described by a few
    values that it may take, others for each class: true of some of its pictures and no help in telling classes apart.

    Args:
        classes: class name → attribute → allowed values.
        causes: which to describe.
    Returns: cause → class name → 1 to 10 sentences, without the class name.
    """
    return {
        cause: {
            name: tuple(_sentences(cause, allowed, position))
            for position, (name, allowed) in enumerate(classes.items())
        }
        for cause in causes
    }


def _sentences(cause: str, allowed: Mapping[str, Sequence[str]], position: int) -> list[str]:
    attribute = _ATTRIBUTE.get(cause, cause)
    values = allowed.get(attribute, ATTRIBUTES[attribute])
    if len(values) > _GUESSES:
        values = [values[(position * _GUESSES + i) % len(values)] for i in range(_GUESSES)]
    wordings = [wording for value in values for wording in _wordings(cause, value)]
    frames = words()["sentences"][cause]
    # all wordings before all frames, so that ten sentences name every value
    sentences = [with_articles(frame.format(wording)) for frame, wording in product(frames, wordings)]
    return list(dict.fromkeys(sentences))[:_SENTENCES]


def _wordings(cause: str, value: str) -> list[str]:
    table = words()
    if cause == "shape":
        return table["nouns"][value]
    if cause == "texture":
        return [table["texture_with"][value]]
    if cause == "background":
        return table["background_on"][value]
    if cause in ("size", "land"):
        return table[cause][value]
    if cause == "place":
        return [_PLACES[value]]
    number = ATTRIBUTES["variant"].index(value) if cause in _ATTRIBUTE else 0
    if cause == "petals":
        return [table["petals"][number]]
    if cause == "length":
        return [table["length"][number // 2]]
    return [value]
