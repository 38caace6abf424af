"""Where the store of this machine lies, and how large it may grow."""

from __future__ import annotations

import os
import re
from pathlib import Path

from cliptune.features.store import LIMIT, FeatureStore
from cliptune.variables import FEATURES, FEATURES_LIMIT, OFF

_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


def usual_store() -> FeatureStore | None:
    """The store that runs use unless they are told otherwise.

    The environment variable CLIPTUNE_FEATURES names its folder, or is "off"; else it is the folder `features` in
    $CLIPTUNE_CACHE, or in `cliptune` of $XDG_CACHE_HOME or ~/.cache. CLIPTUNE_FEATURES_LIMIT, such as "20G", is the
    most that it may hold.
    Raises: ValueError for a limit that is no number of bytes.
    """
    if os.environ.get(FEATURES) == OFF:
        return None
    return FeatureStore(folder(), limit_bytes())


def opened(store: FeatureStore | bool) -> FeatureStore | None:
    """A store as it was asked for: True for the usual one, False for none."""
    if isinstance(store, FeatureStore):
        return store
    return usual_store() if store else None


def folder() -> Path:
    """Of the usual store, whether or not it is in use."""
    named = os.environ.get(FEATURES)
    if named and named != OFF:
        return Path(named).expanduser()
    own = os.environ.get("CLIPTUNE_CACHE")
    if own:
        return Path(own).expanduser() / "features"
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "cliptune" / "features"


def limit_bytes() -> int:
    """Raises: ValueError."""
    text = os.environ.get(FEATURES_LIMIT, "").strip()
    if not text:
        return LIMIT
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?", text, re.IGNORECASE)
    if found is None:
        raise ValueError(f"{FEATURES_LIMIT} must be a number of bytes such as 500M or 20G, got {text!r}.")
    return int(float(found[1]) * _UNITS[found[2].upper()])
