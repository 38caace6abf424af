"""Runs for others: what was learned, its settings and a card, in a folder or on the Hugging Face hub."""

from cliptune.sharing.opening import from_pretrained
from cliptune.sharing.saving import push_to_hub, save_pretrained

__all__ = ["from_pretrained", "push_to_hub", "save_pretrained"]
