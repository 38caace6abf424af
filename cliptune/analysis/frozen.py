"""The frozen CLIP in the clothes of an adapter, to be asked what the adapter is asked."""

from __future__ import annotations

from cliptune.adapter import Adapter
from cliptune.heads import MeanHead
from cliptune.prompts import NoPrompt
from cliptune.texts import TemplatePhrasing


def frozen(adapter: Adapter) -> Adapter:
    """The same CLIP and classes, the classes' own template, nothing learned; in evaluation mode."""
    return Adapter(adapter.clip, adapter.classes, TemplatePhrasing(), NoPrompt(), MeanHead()).eval()
