"""What an analysis found: numbers with names, a sentence that says what is seen, plain data for a file."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np
from torch import Tensor

_DIGITS = 6
PICTURES = {"plain": False}
"""Metadata of a field that holds pictures, which `to_json` leaves out."""


class Finding(ABC):
    """The result of an analysis; subclasses are frozen dataclasses of tensors, numbers, names and the like."""

    @abstractmethod
    def sentence(self) -> str:
        """What is seen, in one sentence that names the number."""

    def to_json(self) -> dict[str, Any]:
        """Its fields as plain data; numbers keep six significant digits, what is no number (NaN, ±∞) is null."""
        found = plain(self)
        assert isinstance(found, dict)
        return found


def plain(value: Any) -> Any:
    """The same value from dictionaries, lists, strings and finite numbers alone."""
    if is_dataclass(value) and not isinstance(value, type):
        kept = [field.name for field in fields(value) if field.metadata.get("plain", True)]
        return {name: plain(getattr(value, name)) for name in kept}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, (Tensor, np.ndarray)):
        return plain(value.tolist())
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, float):
        return float(f"{value:.{_DIGITS}g}") if math.isfinite(value) else None
    if value is None or isinstance(value, (bool, int, str)):
        return value
    raise TypeError(f"Finding: {type(value).__name__} has no form as plain data.")
