"""What the released command lines say, in words of this one: data sets, YAML files, options."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cliptune.reading import LARGEST_YAML, content_of, yaml_value


def data_name(*names: str) -> str:
    """The first name of a published data set in any spelling, as `cliptune data list` has it; else the first name."""
    from cliptune.data.published.facts import published

    given = [name for name in names if name]
    if not given:
        raise ValueError("train: there is no data set. Give --dataset-config-file, or DATASET.NAME NAME at the end.")
    for name in given:
        for known, facts in published().items():
            if name.lower() in facts.spellings:
                return known
    return given[0]


def read_yaml(path: Path) -> dict[str, Any]:
    """A mapping from a YAML file, read without executing anything. Raises: ValueError if it is none."""
    try:
        content = yaml_value(content_of(path, LARGEST_YAML))
    except (OSError, ValueError) as error:
        raise ValueError(f"train: {path} cannot be read as YAML: {error}. Correct the file.") from error
    if not isinstance(content, dict):
        raise ValueError(f"train: {path} should hold settings by name, but holds {type(content).__name__}.")
    return content


def assigned(method: str, options: Mapping[str, Any], start: Mapping[str, Any] | None = None) -> list[str]:
    """Words that set options of a method, without those that have these values anyway.

    Args:
        start: options of the recipe that the run starts from.
    Raises: ValueError for a value that the option cannot have.
    """
    from cliptune.cli.commands.recipes import spelled
    from cliptune.cli.shared.settings import resolve
    from cliptune.registry import describe

    found = resolve(method, assignments=[f"{name}={spelled(value)}" for name, value in options.items()])
    before = {name: default for part in method.split("+") for name, (_, default) in describe(part).options.items()}
    before |= start or {}
    settings = {name: value for name, value in found.options.items() if value != before.get(name)} | found.training
    return [word for name, value in settings.items() for word in ("--set", f"{name}={spelled(value)}")]
