"""Backbones that installed distributions bring, as entry points of the group `cliptune.backbones`."""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import Any

GROUP = "cliptune.backbones"


def installed_backbone(name: str, device: Any, dtype: Any) -> Any:
    """What the entry point `name`, called without arguments, returns; None if there is no such entry point.

    Returns: a CLIP on the device in the given type, whose origin names it so that `load_clip` opens it again.
    Raises: ValueError if it cannot be imported, or returns no CLIP.
    """
    from cliptune.clip.model import CLIP

    point = next(iter(entry_points(group=GROUP, name=name)), None)
    if point is None:
        return None
    who = f"Installed backbone {name!r} ({point.value})"
    try:
        clip = point.load()()
    except Exception as error:
        raise ValueError(
            f"{who}: expected a function that makes a CLIP without arguments, but {type(error).__name__}: {error}. "
            "Repair or uninstall its distribution."
        ) from error
    if not isinstance(clip, CLIP):
        raise ValueError(f"{who}: expected a CLIP of cliptune, got {type(clip).__name__}. Return one of `load_clip`.")
    clip.name, clip.origin = name, {**clip.origin, "source": f"installed:{name}"}
    return clip.to(device=device, dtype=dtype).eval()
