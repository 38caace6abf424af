"""Words: class names, templates, and how they become token batches with places for prompts."""

from cliptune.texts.batch import TextBatch
from cliptune.texts.classes import ClassSet
from cliptune.texts.phrasing import ContextPhrasing, Phrasing, TemplatePhrasing
from cliptune.texts.templates import ensemble

__all__ = ["ClassSet", "ContextPhrasing", "Phrasing", "TemplatePhrasing", "TextBatch", "ensemble"]
