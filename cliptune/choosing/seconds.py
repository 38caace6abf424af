"""Budgets of time as a user writes them."""

from __future__ import annotations

import re

_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0}
_WRITTEN = re.compile(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s)?")


def parse_seconds(text: str) -> float:
    """Seconds of a time such as "90s", "5m", "1.5h" or "1h30m".

    Raises: ValueError for anything else, and for no time at all.
    """
    found = _WRITTEN.fullmatch(text.strip().lower().replace(" ", ""))
    parts = [] if found is None else [(value, unit) for value, unit in zip(found.groups(), "hms", strict=True) if value]
    seconds = sum(float(value) * _UNITS[unit] for value, unit in parts)
    if not seconds:
        raise ValueError(f"A time is written with its unit, such as 90s, 5m or 1h30m, and is above 0; got {text!r}.")
    return seconds
