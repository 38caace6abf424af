"""Words: class names, templates, descriptions, and how they become token batches with places for prompts."""

from cliptune.texts.batch import TextBatch
from cliptune.texts.classes import ClassSet
from cliptune.texts.described import DescriptionPhrasing
from cliptune.texts.descriptions import attribute_sets, read_descriptions
from cliptune.texts.known import KnownTexts
from cliptune.texts.phrasing import ContextPhrasing, Phrasing, TemplatePhrasing
from cliptune.texts.templates import ensemble

__all__ = [
    "ClassSet",
    "ContextPhrasing",
    "DescriptionPhrasing",
    "KnownTexts",
    "Phrasing",
    "TemplatePhrasing",
    "TextBatch",
    "attribute_sets",
    "ensemble",
    "read_descriptions",
]
