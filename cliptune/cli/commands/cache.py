"""`cliptune cache`: what of pictures' embeddings is kept for later runs, and clearing it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, Parameter

from cliptune.cli.shared.output import count, say, table

if TYPE_CHECKING:
    from cliptune.features import FeatureStore, Space

app = App(name="cache", help="Embeddings of pictures that are kept for later runs: list them, or clear them.")

_DAY = 86_400


def list_() -> int:
    """What is kept: for each backbone and kind of machine, how many views of pictures.

    Any command goes without it, and neither looks anything up nor keeps anything, with --no-cache or
    CLIPTUNE_FEATURES=off; the numbers are the same, bit for bit. CLIPTUNE_FEATURES is its folder, and
    CLIPTUNE_FEATURES_LIMIT, such as 20G, what it may hold; beyond that, what was not used for longest makes room.
    """
    store = _store()
    spaces = store.spaces()
    if not spaces:
        say(f"Nothing is kept in {store.folder}.")
        return 0
    table(
        ["key", "backbone", "type", "views", "MB", "last used", "machine"],
        map(_row, spaces),
        left=3,
    )
    held = store.bytes()
    say(
        f"{held / 1e6:,.1f} MB of at most {store.limit_bytes / 1e6:,.0f} MB in {store.folder}.",
        "Clear it: cliptune cache clear",
    )
    return 0


def clear(
    backbone: str | None = None,
    *,
    key: str | None = None,
    days: Annotated[float | None, Parameter(name="--unused-days")] = None,
) -> int:
    """Remove what is kept. It is computed again when it is needed.

    Parameters
    ----------
    backbone
        Of this backbone alone, as the list names it.
    key
        Of one line of the list alone, or the beginning of its key.
    days
        Only what was not used for so many days.
    """
    if days is not None and not days >= 0:
        raise ValueError(f"--unused-days must be 0 or more, got {days:g}.")
    store = _store()
    spaces = store.spaces()
    named = [
        space
        for space in spaces
        if backbone in (None, space.described.get("backbone")) and space.name.startswith(key or "")
    ]
    if not named and (backbone or key):
        there = sorted({str(space.described.get("backbone")) for space in spaces})
        raise ValueError(
            f"cache clear: nothing is kept of {backbone or key!r} in {store.folder}; there is "
            f"{', '.join(there) or 'nothing'}. See cliptune cache list."
        )
    freed = store.clear(named if backbone or key else None, unused_for=(days or 0) * _DAY)
    say(f"Freed {freed / 1e6:,.1f} MB in {store.folder}.")
    return 0


def _store() -> FeatureStore:
    """The usual one, also where this call would go without it."""
    from cliptune.features import FeatureStore
    from cliptune.features.place import folder, limit_bytes

    return FeatureStore(folder(), limit_bytes())


def _row(space: Space) -> list[Any]:
    from cliptune.features.store import last_used

    shards = space.shards()
    size = sum(shard.path.stat().st_size for shard in shards)
    told = space.described
    days = (time.time() - last_used(space)) / _DAY
    when = "today" if days < 1 else f"{count(int(days), 'day')} ago"
    machine = str(told.get("machine", "")).split(",")
    return [
        space.name[:8],
        told.get("backbone", ""),
        told.get("type", ""),
        f"{sum(map(len, shards)):,}",
        f"{size / 1e6:,.1f}",
        when,
        ",".join(machine[:3]).strip(),
    ]
