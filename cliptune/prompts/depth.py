"""How deep a prompt goes, checked against the backbone."""

from __future__ import annotations

from typing import Any

from cliptune.clip.ports import called


def check_tokens(method: str, name: str, n: int) -> None:
    """Raises: ValueError for a number of learned tokens below 1."""
    if n < 1:
        raise ValueError(f"{method}: {name} must be at least 1 learned token, got {n}.")


def resolve_depth(
    method: str,
    tower_name: str,
    tower: Any,
    depth: int | None,
    published: int | None = None,
    *,
    what: str = "prompt tokens",
    instead: str = "a method that prompts the text only, such as coop",
) -> int:
    """Number of prompted blocks.

    Args:
        method: who asks, for the error. tower_name: "text" or "image".
        depth: as configured; None for the published depth, or all blocks of a shallower tower.
        published: the paper's depth; None if the paper prompts every block.
        what: enters the blocks. instead: what works on any tower. Both for the error.
    Raises: ValueError if the tower has no transformer blocks, or fewer than `depth`.
    """
    layers = getattr(tower, "layers", 0)
    if not layers:
        raise ValueError(
            f"{method}: {what} need a transformer as {tower_name} tower, but this backbone has a "
            f"{called(tower)}. Use a ViT backbone, or {instead}."
        )
    if depth is None:
        return min(layers, published or layers)
    if not 1 <= depth <= layers:
        raise ValueError(
            f"{method}: depth must be between 1 and {layers}, the blocks of the {tower_name} tower, got {depth}."
        )
    return depth


def shallower(method: str, depth: int | None, found: int, published: int, option: str = "depth") -> tuple[str, ...]:
    """A sentence where a depth was left out and the tower has fewer blocks than the paper prompts.

    Args:
        depth: as configured. found: what `resolve_depth` made of it. option: what the configuration calls it.
    """
    if depth is not None or found >= published:
        return ()
    return (f"{method}: {option} was left out and is {found}, all blocks of the tower, not the paper's {published}.",)
