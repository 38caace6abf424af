"""The backbone where none is named."""

from __future__ import annotations

from pathlib import Path

from cliptune.clip.weights.download import cache_folder
from cliptune.clip.weights.openai import archive_file

PREFERRED, TOY = "ViT-B/16", "mini"


def is_fetched(name: str) -> bool:
    """Whether the archive of one of OpenAI's models is on this machine."""
    folders = (cache_folder() / "openai", Path("~/.cache/clip").expanduser())
    return any((folder / archive_file(name)).exists() for folder in folders)


def usual_backbone() -> str:
    """ViT-B/16 if it is on this machine, else mini, a toy; nothing is downloaded."""
    return PREFERRED if is_fetched(PREFERRED) else TOY
