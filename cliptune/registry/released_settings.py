"""What the released code calls its trainers and settings, from the [released] part of each method's data file."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from cliptune.registry.building import add_ons, names
from cliptune.registry.recipes import data_file

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


@dataclass(frozen=True)
class Key:
    """A setting of the released code.

    Args:
        option: of ours that it sets. default: its value where it is not given.
        values: value there, as text in lower case → value here, where they are called differently.
        length: option that then takes the number of words of the value; "" for none.
    """

    option: str
    default: Any
    values: Mapping[str, Any] = field(default_factory=dict)
    length: str = ""

    def options(self, value: Any) -> dict[str, Any]:
        """Ours for a value of theirs."""
        value = self.values.get(str(value).lower(), value)
        if isinstance(value, str) and "_" in value and self.option == "words":
            value = value.replace("_", " ")
        words = value.split() if isinstance(value, str) else []
        return {self.option: value, **({self.length: len(words)} if self.length and words else {})}


@dataclass(frozen=True)
class Released:
    """How one method's released code is configured.

    Args:
        trainers: trainer → method, with add-ons.
        keys: setting → what it means here.
        options: ours that the released code implies.
        silent: settings that change nothing here.
        remarks: setting → why it has no counterpart.
    """

    trainers: Mapping[str, str] = field(default_factory=dict)
    keys: Mapping[str, Key] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    silent: tuple[str, ...] = ()
    remarks: Mapping[str, str] = field(default_factory=dict)


@cache
def released(name: str) -> Released:
    """Of one method or add-on; empty if nothing is known. Raises: ValueError for an unknown name."""
    path = data_file(name)
    content = tomllib.loads(path.read_text(encoding="utf-8")).get("released", {}) if path.is_file() else {}
    keys = {key: Key(**values) for key, values in content.pop("keys", {}).items()}
    return Released(keys=keys, silent=tuple(content.pop("silent", ())), **content)


def released_trainers() -> dict[str, str]:
    """Name of a released trainer → method, with add-ons."""
    return {trainer: method for name in (*names(), *add_ons()) for trainer, method in released(name).trainers.items()}
